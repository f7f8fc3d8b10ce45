// A ScoreTask in the scheduler.
#ifndef POT_SERVER_SERVING_SCHEDULED_SCORE_H_
#define POT_SERVER_SERVING_SCHEDULED_SCORE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/serving/generate_task.h"
#include "server/serving/scheduled_task.h"

namespace pot {

// Counts as one sequence. Model and reference compute the same chunk in the
// same round; the rows of the first to come are copied, as the engine keeps
// them for one step only.
class ScheduledScore : public ScheduledTask {
 public:
  // `task` passed ValidateTask().
  ScheduledScore(std::unique_ptr<ScoreTask> task, absl::Time submitted,
                 std::shared_ptr<ModelMetrics> metrics);

  int64_t queued_tokens() const override { return inputs(); }
  int64_t live_sequences() const override { return complete() ? 0 : 1; }
  int64_t kv_bytes() const override;
  absl::Status Admit(InferenceEngine* engine, PrefixCache* prefixes) override;
  absl::Duration LeastTime(const CompletionPredictor& predictor,
                           PrefixCache* prefixes,
                           bool with_prompt) const override;
  // Lane 0 is the model, lane 1 the reference.
  void Plan(RoundPlan* plan) override;
  void Compute(int lane, absl::Span<const float> logits) override;
  absl::Status Deliver(int lane, absl::Time now) override;
  bool complete() const override { return computed_ == inputs(); }

 protected:
  void OnEnd(const absl::Status& status, const TaskTimings& timings) override;

 private:
  // Inputs w of the window.
  int64_t inputs() const {
    return static_cast<int64_t>(task_->window.tokens.size()) - 1;
  }
  // A reference of its own: not the model itself, whose rows serve as both.
  bool has_second_lane() const {
    return task_->reference != nullptr && task_->reference != task_->model;
  }
  void AddChunk(RoundPlan* plan, int lane, bool counted);
  // Adds the predictions of the present chunk; (chunk_, V) each.
  void Count(absl::Span<const float> logits, absl::Span<const float> reference);

  const std::unique_ptr<ScoreTask> task_;
  std::unique_ptr<KvCache> caches_[2];  // null until admitted
  ScoreTask::Result result_;
  int64_t computed_ = 0;
  int64_t chunk_ = 0;       // inputs planned in this round
  int lanes_computed_ = 0;  // of the present chunk
  std::vector<float> kept_rows_;
  absl::Status chunk_status_;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_SCHEDULED_SCORE_H_
