// A GenerateTask in the scheduler.
#ifndef POT_SERVER_SERVING_SCHEDULED_GENERATION_H_
#define POT_SERVER_SERVING_SCHEDULED_GENERATION_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/serving/generate_task.h"
#include "server/serving/generation_sequence.h"
#include "server/serving/latency_histogram.h"
#include "server/serving/scheduled_task.h"

namespace pot {

// The prompt is computed once, in chunks, but for the beginning that is cached;
// its keys and values are then shared with the other sequences.
class ScheduledGeneration : public ScheduledTask {
 public:
  // `task` passed ValidateTask(). `latencies` as in SchedulerOptions.
  ScheduledGeneration(std::unique_ptr<GenerateTask> task, absl::Time submitted,
                      std::shared_ptr<ModelMetrics> metrics,
                      LatencyHistogram* latencies = nullptr);

  int64_t queued_tokens() const override;
  int64_t live_sequences() const override { return live_sequences_; }
  int64_t kv_bytes() const override;
  absl::Status Admit(InferenceEngine* engine, PrefixCache* prefixes) override;
  absl::Duration LeastTime(const CompletionPredictor& predictor,
                           PrefixCache* prefixes,
                           bool with_prompt) const override;
  bool ReadyForMore() const override;
  bool decoding() const override { return prefilled(); }
  // Lanes are the sequences' indices; the prompt is lane 0.
  void Plan(RoundPlan* plan) override;
  void Compute(int lane, absl::Span<const float> logits) override;
  absl::Status Deliver(int lane, absl::Time now) override;
  bool complete() const override;

 protected:
  void OnEnd(const absl::Status& status, const TaskTimings& timings) override;

 private:
  int64_t prompt_size() const;
  // Positions of the longest sequence; its last token is never fed.
  int64_t positions() const;
  bool prefilled() const { return prompt_computed_ == prompt_size(); }
  // Cached blocks of the prompt but for its last token, whose logits are
  // needed; none when those of all tokens are.
  PrefixCache::Blocks FindCached(PrefixCache* prefixes) const;
  // Goes on behind `blocks` where that is further than the prompt has come.
  absl::Status TakeCached(const PrefixCache::Blocks& blocks, KvCache* cache);
  void PlanPrompt(RoundPlan* plan);
  void ComputePrompt(absl::Span<const float> logits);
  absl::Status DeliverPrompt(absl::Time now);
  absl::Status DeliverToken(GenerationSequence* sequence, absl::Time now);
  // A token of one of the sequences, which advance together.
  void RecordLatency(absl::Time now);
  void Emit(TokenEvent event);
  // The n best of best_of, as one event each.
  void EmitRanked();

  const std::unique_ptr<GenerateTask> task_;
  const GenerationRules rules_;
  // Empty until admitted.
  std::vector<std::unique_ptr<GenerationSequence>> sequences_;
  int64_t live_sequences_;
  PrefixCache* prefixes_ = nullptr;  // null until admitted
  int64_t prompt_computed_ = 0;      // or cached
  int64_t prompt_cached_ = 0;
  int64_t chunk_ = 0;  // prompt tokens planned in this round
  std::vector<SampledToken> prompt_logprobs_;
  absl::Status prompt_status_;
  LatencyHistogram* const latencies_;
  // Of the round before the latest that brought tokens, and of that one;
  // InfinitePast when there is none, or the reader was behind in between.
  absl::Time previous_tokens_ = absl::InfinitePast();
  mutable absl::Time latest_tokens_ = absl::InfinitePast();
  // With n < best_of: what each sequence's events add up to.
  std::vector<TokenEvent> withheld_;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_SCHEDULED_GENERATION_H_
