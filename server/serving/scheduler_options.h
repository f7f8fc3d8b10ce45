// Settings of the scheduler, and what it tells of each step.
#ifndef POT_SERVER_SERVING_SCHEDULER_OPTIONS_H_
#define POT_SERVER_SERVING_SCHEDULER_OPTIONS_H_

#include <cstdint>
#include <functional>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/loaded_model.h"
#include "server/observability/serving_metrics.h"
#include "server/serving/latency_histogram.h"

namespace pot {

// One engine step, for metrics.
struct StepReport {
  const ModelIdentity* model = nullptr;  // valid during the call
  int64_t decode_sequences = 0;          // that got one token each
  int64_t chunk_tokens = 0;              // of prompts and score windows
  absl::Duration duration;               // of step, sampling and delivery
};

struct SchedulerOptions {
  int64_t max_waiting_tasks = 256;
  // Prompt and window tokens of waiting tasks.
  int64_t max_waiting_tokens = 1 << 18;
  // Tasks that would wait longer, at the pace of the last ones, are refused.
  absl::Duration max_queue_time = absl::InfiniteDuration();
  int64_t max_running_sequences = 32;
  // Most tokens of prompts, and of score windows, computed in one step. Beside
  // decoding sequences there are fewer, so that a long prompt does not stall
  // their streams (chunk_pacer.h).
  int64_t prefill_chunk_tokens = 128;
  // Bounds the rows of such a chunk that need logits for every token, (rows, V)
  // floats: score windows and prompt log-probabilities. At least one row.
  int64_t max_logit_bytes = 8 << 20;
  // KV memory that prompts which were computed may take, for prompts that begin
  // alike; 0: nothing is kept.
  int64_t prefix_cache_bytes = 0;
  // Told to clients that are refused for now.
  absl::Duration retry_after = absl::Seconds(1);
  std::function<absl::Time()> now = &absl::Now;
  // Called on the scheduler's thread after each step; must not block.
  std::function<void(const StepReport&)> on_step;
  // Gets the time between two tokens of a sequence, but for those between which
  // its reader was behind. Null: nobody asks; outlives the scheduler.
  LatencyHistogram* inter_token_latencies = nullptr;
  // Gets what tasks and steps take. Null: nobody asks; outlives the scheduler.
  ServingMetrics* metrics = nullptr;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_SCHEDULER_OPTIONS_H_
