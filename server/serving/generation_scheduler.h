// Continuous batching: sequences join and leave between steps.
#ifndef POT_SERVER_SERVING_GENERATION_SCHEDULER_H_
#define POT_SERVER_SERVING_GENERATION_SCHEDULER_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/inference_engine.h"
#include "server/serving/generate_task.h"
#include "server/serving/scheduler_options.h"

namespace pot {

struct SchedulerStats {
  int64_t waiting_tasks = 0;
  int64_t waiting_tokens = 0;
  int64_t running_tasks = 0;
  int64_t running_sequences = 0;
  int64_t parked_sequences = 0;
  int64_t prefix_cache_bytes = 0;  // shared with running sequences or not
};

// Start() gives it a thread of its own; tests call RunOnce() by hand instead.
//
// Tasks are admitted in order when there is a free slot for each of their
// sequences and KV memory for all their tokens, so that nothing running is ever
// evicted and nothing waiting is overtaken. Memory of cached prompts makes
// room. A ScoreTask takes one slot. Cancellation and deadlines are looked at
// before every step. A task that cannot end before its deadline, by what recent
// steps took, ends with DEADLINE_EXCEEDED (DEADLINE_INFEASIBLE) when it is new,
// or when its turn comes, instead of being computed in vain.
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

  // Looks again at parked tasks, cancellations, the queue, and what is cached
  // for models that are gone. Any thread.
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
