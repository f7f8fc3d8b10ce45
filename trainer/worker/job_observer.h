// What a worker does besides while a training runs: directives in, progress,
// evaluations, checkpoints and snapshots out.
#ifndef POT_TRAINER_WORKER_JOB_OBSERVER_H_
#define POT_TRAINER_WORKER_JOB_OBSERVER_H_

#include <chrono>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "trainer/training/training_loop.h"
#include "trainer/worker/job_inputs.h"
#include "trainer/worker/lease_keeper.h"
#include "trainer/worker/uploader.h"
#include "trainer/worker/worker_metrics.h"

namespace pot {

class JobObserver final : public TrainingObserver {
 public:
  // All outlive this. Evaluations that the server may lack are kept in the file
  // `unsent`. `metrics` may be null.
  JobObserver(const JobInputs* inputs, const TrainingRun* run,
              LeaseKeeper* keeper, Uploader* uploader, WorkerMetrics* metrics,
              std::string unsent);

  // Tells of evaluations up to `step` that a killed worker did not get through;
  // later ones will be made again.
  static void Recover(const std::string& unsent, int64_t step,
                      LeaseKeeper* keeper);

  // Sleeps as long as the duty ratio says.
  LoopCommand Next() override;
  void OnStep(const StepReport& report) override;
  // OUT_OF_RANGE when the loss is not finite.
  absl::Status OnEvaluation(const EvaluationReport& report) override;
  absl::Status OnSnapshot(int64_t step, const std::string& path) override;

 private:
  using Clock = std::chrono::steady_clock;

  void Rest();
  absl::Status KeepUnsent() const;

  const JobInputs& inputs_;
  const TrainingRun& run_;
  LeaseKeeper* const keeper_;
  Uploader* const uploader_;
  WorkerMetrics* const metrics_;
  const std::string unsent_;
  const int64_t steps_;
  const int64_t tokens_per_step_;
  Clock::time_point busy_since_ = Clock::now();
  Clock::time_point last_step_ = Clock::now();
  int64_t reported_steps_ = 0;
  double smoothed_loss_ = 0;
  double seconds_per_step_ = 0;
};

}  // namespace pot

#endif  // POT_TRAINER_WORKER_JOB_OBSERVER_H_
