// The tasks that were admitted, and the rounds that they take part in.
#ifndef POT_SERVER_SERVING_RUNNING_TASKS_H_
#define POT_SERVER_SERVING_RUNNING_TASKS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/inference_engine.h"
#include "server/serving/chunk_pacer.h"
#include "server/serving/completion_predictor.h"
#include "server/serving/prefix_cache.h"
#include "server/serving/round_plan.h"
#include "server/serving/scheduled_task.h"
#include "server/serving/scheduler_options.h"

namespace pot {

// Used by the thread that runs rounds, in the order of admission.
class RunningTasks {
 public:
  // Both outlive this.
  RunningTasks(InferenceEngine* engine, const SchedulerOptions* options);

  bool empty() const { return tasks_.empty(); }
  int64_t size() const { return static_cast<int64_t>(tasks_.size()); }
  // Of tasks that have not ended.
  int64_t sequences() const;
  // Left out of the last round because their reader is behind.
  int64_t parked_sequences() const { return parked_sequences_; }
  int64_t prefix_cache_bytes() const { return prefixes_.bytes(); }
  absl::Time NearestDeadline() const;

  // There is a slot for each of the task's sequences.
  bool HasSlotsFor(const ScheduledTask& task) const;
  // OK unless the task, which waits `queue_time` for `tasks_before` others,
  // cannot end before its deadline (DEADLINE_INFEASIBLE).
  absl::Status CheckFeasible(const ScheduledTask& task, int64_t tasks_before,
                             absl::Duration queue_time, absl::Time now);
  // See ScheduledTask::Admit().
  absl::Status Admit(ScheduledTask* task);
  // Takes over a task that was admitted.
  void Add(std::unique_ptr<ScheduledTask> task);

  // Ends all tasks with `status`.
  void EndAll(const absl::Status& status, absl::Time now);
  // Ends those that were cancelled or expired; true when there were any.
  bool EndDead(absl::Time now);
  // Frees what is cached for models that are gone.
  void DropUnloadedModels() { prefixes_.DropUnloaded(); }
  // One engine step per model with work; false when there is none.
  bool RunSteps();

  // Takes out the tasks that have ended.
  std::vector<std::unique_ptr<ScheduledTask>> TakeEnded();

 private:
  void Plan(RoundPlan* plan);
  void RunStep(const RoundPlan::ModelStep& step);

  InferenceEngine* const engine_;
  const SchedulerOptions& options_;
  ChunkPacer pacer_;
  CompletionPredictor predictor_;
  PrefixCache prefixes_;
  std::vector<std::unique_ptr<ScheduledTask>> tasks_;
  int64_t parked_sequences_ = 0;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_RUNNING_TASKS_H_
