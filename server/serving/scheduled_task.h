// What the scheduler sees of a task, whatever it computes.
#ifndef POT_SERVER_SERVING_SCHEDULED_TASK_H_
#define POT_SERVER_SERVING_SCHEDULED_TASK_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/inference_engine.h"
#include "server/observability/serving_metrics.h"
#include "server/serving/completion_predictor.h"
#include "server/serving/generate_task.h"
#include "server/serving/prefix_cache.h"
#include "server/serving/round_plan.h"

namespace pot {

// A task from Submit() to its last callback: it waits, is admitted, takes part
// in rounds (Plan, engine steps with Compute and Deliver) and ends. Used by one
// thread at a time; who is called when is generation_scheduler.cc's business.
class ScheduledTask {
 public:
  // `cancelled` may be null. `metrics`, of the task's model, may not.
  ScheduledTask(absl::Time submitted, absl::Time deadline,
                std::shared_ptr<std::atomic<bool>> cancelled,
                std::shared_ptr<ModelMetrics> metrics);
  virtual ~ScheduledTask() = default;
  ScheduledTask(const ScheduledTask&) = delete;
  ScheduledTask& operator=(const ScheduledTask&) = delete;

  absl::Time deadline() const { return deadline_; }
  // Whether LeastTime() was looked at when the task was new.
  bool judged() const { return judged_; }
  void set_judged() { judged_ = true; }
  // CANCELLED or DEADLINE_EXCEEDED when the task must not go on.
  absl::Status CheckAlive(absl::Time now) const;

  // Tokens that it will have computed before the first result.
  virtual int64_t queued_tokens() const = 0;
  // Sequences that have not ended.
  virtual int64_t live_sequences() const = 0;
  // KV memory that Admit() reserves when none of it is shared with others.
  virtual int64_t kv_bytes() const = 0;

  // Reserves KV memory for everything to come, where there is less of it than
  // needed in place of blocks of `prefixes`, which outlives the task's end.
  // RESOURCE_EXHAUSTED, and nothing reserved, when there is not enough now.
  virtual absl::Status Admit(InferenceEngine* engine,
                             PrefixCache* prefixes) = 0;

  // How long it takes at least once it is admitted. `with_prompt` false: its
  // prompt may be computed with another's.
  virtual absl::Duration LeastTime(const CompletionPredictor& predictor,
                                   PrefixCache* prefixes,
                                   bool with_prompt) const = 0;

  // False while whoever reads the results is behind.
  virtual bool ReadyForMore() const { return true; }

  // Every round brings its sequences a token: no prompt is left to compute.
  virtual bool decoding() const { return false; }

  // Adds what it wants computed in this round.
  virtual void Plan(RoundPlan* plan) = 0;

  // Takes the (rows, V) logits that an item of Plan() asked for. Runs beside
  // Compute() of other items, also of the same task's: calls nobody outside.
  virtual void Compute(int lane, absl::Span<const float> logits) = 0;
  // Hands the results of Compute() out; an error ends the task.
  virtual absl::Status Deliver(int lane, absl::Time now) = 0;

  // Everything was delivered.
  virtual bool complete() const = 0;

  void MarkStarted(absl::Time now);
  // Frees the KV memory, then makes the last call to the outside.
  void End(const absl::Status& status, absl::Time now);
  bool ended() const { return ended_; }

 protected:
  virtual void OnEnd(const absl::Status& status,
                     const TaskTimings& timings) = 0;

  void MarkPrefilled(absl::Time now);
  void MarkToken(absl::Time now);
  ModelMetrics* metrics() const { return metrics_.get(); }

 private:
  TaskTimings Timings(absl::Time now) const;

  const absl::Time submitted_;
  const absl::Time deadline_;
  const std::shared_ptr<std::atomic<bool>> cancelled_;
  const std::shared_ptr<ModelMetrics> metrics_;
  // InfinitePast: not yet.
  absl::Time started_ = absl::InfinitePast();
  absl::Time prefilled_ = absl::InfinitePast();
  absl::Time first_token_ = absl::InfinitePast();
  absl::Time last_token_ = absl::InfinitePast();
  bool judged_ = false;
  bool ended_ = false;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_SCHEDULED_TASK_H_
