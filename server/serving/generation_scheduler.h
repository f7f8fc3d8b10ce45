// Continuous batching: sequences join and leave between steps.
#ifndef POT_SERVER_SERVING_GENERATION_SCHEDULER_H_
#define POT_SERVER_SERVING_GENERATION_SCHEDULER_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/inference_engine.h"
#include "server/serving/generate_task.h"

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
  int64_t max_running_sequences = 32;
  // Tokens of prompts, and of score windows, computed in one step beside the
  // decoding sequences, so that a long prompt does not stall their streams.
  int64_t prefill_chunk_tokens = 128;
  // Bounds the rows of such a chunk that need logits for every token, (rows, V)
  // floats: score windows and prompt log-probabilities. At least one row.
  int64_t max_logit_bytes = 8 << 20;
  // Told to clients that are refused for now.
  absl::Duration retry_after = absl::Seconds(1);
  std::function<absl::Time()> now = &absl::Now;
  // Called on the scheduler's thread after each step; must not block.
  std::function<void(const StepReport&)> on_step;
};

struct SchedulerStats {
  int64_t waiting_tasks = 0;
  int64_t waiting_tokens = 0;
  int64_t running_sequences = 0;
  int64_t parked_sequences = 0;
};

// Start() gives it a thread of its own; tests call RunOnce() by hand instead.
//
// Tasks are admitted in order when there is a free slot for each of their
// sequences and KV memory for all their tokens, so that nothing running is ever
// evicted and nothing waiting is overtaken. A ScoreTask takes one slot.
// Cancellation and deadlines are looked at before every step.
class GenerationScheduler {
 public:
  // `engine` must outlive this and is stepped by nobody else.
  GenerationScheduler(InferenceEngine* engine, SchedulerOptions options);
  // Stops; tasks that are left end with CANCELLED.
  ~GenerationScheduler();

  void Start();

  // Takes the task over; its sink, or done, hears the rest. Refused at once,
  // with nothing called: RESOURCE_EXHAUSTED (QUEUE_FULL, QUEUED_TOKENS, with a
  // retry time; KV_MEMORY without one when it could never fit), UNAVAILABLE
  // (DRAINING), INVALID_ARGUMENT for a task that its parser should have refused
  // or that has more sequences than max_running_sequences. Any thread; never
  // blocks on a step.
  absl::Status Submit(std::unique_ptr<GenerateTask> task);
  absl::Status Submit(std::unique_ptr<ScoreTask> task);

  // Looks again at parked tasks, cancellations and the queue. Any thread.
  void Wake();

  // One round: drop what is cancelled or expired, admit, one engine step per
  // model with work, sample, hand out. False when there was nothing to do.
  // Only without Start().
  bool RunOnce();

  // Refuses new tasks from now on.
  void BeginDrain();
  // Begins to drain, waits until no task is left, or ends the rest with
  // UNAVAILABLE (DRAINING) at `deadline`; true in the first case. Runs the
  // rounds itself without Start().
  bool FinishDrain(absl::Time deadline);

  SchedulerStats stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_GENERATION_SCHEDULER_H_
