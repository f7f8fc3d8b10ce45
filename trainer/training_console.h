// What a person sees of a training, and Ctrl-C.
#ifndef POT_TRAINER_TRAINING_CONSOLE_H_
#define POT_TRAINER_TRAINING_CONSOLE_H_

#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/progress_bar.h"
#include "trainer/training/training_loop.h"

namespace pot {

// While one exists, SIGINT and SIGTERM pause the training: it is saved, if it
// has a state directory, and can be gone on with. A second signal ends the
// process as usual.
class TrainingConsole : public TrainingObserver {
 public:
  // `on_best` is called with every evaluation that is the best so far, and may
  // export the run. With a `state` directory, steps and evaluations are
  // appended to its metrics.jsonl, which is made here. INTERNAL when it cannot
  // be.
  static absl::StatusOr<std::unique_ptr<TrainingConsole>> Create(
      const TrainingOptions& options, const std::string& state,
      std::function<absl::Status(const EvaluationReport&)> on_best);
  ~TrainingConsole() override;

  LoopCommand Next() override;
  void OnStep(const StepReport& report) override;
  absl::Status OnEvaluation(const EvaluationReport& report) override;
  absl::Status OnSnapshot(int64_t step, const std::string& path) override;

  // A line above the bar.
  void Print(const std::string& line) { bar_.Print(line); }

 private:
  TrainingConsole(const TrainingOptions& options,
                  std::function<absl::Status(const EvaluationReport&)> on_best,
                  std::FILE* metrics);

  using Clock = std::chrono::steady_clock;

  const int64_t steps_;
  const int64_t tokens_per_step_;
  const std::function<absl::Status(const EvaluationReport&)> on_best_;
  std::FILE* const metrics_;  // or null
  ProgressBar bar_;
  Clock::time_point last_step_ = Clock::now();
  double smoothed_loss_ = 0;
  double seconds_per_step_ = 0;
  double validation_nats_ = 0;
  bool any_step_ = false;
};

// Goes on from the newest snapshot in the directory `state`, if there is one,
// trains to the end, and says how it went. `state` may be empty. CANCELLED when
// it was interrupted.
absl::StatusOr<LoopResult> TrainFromState(const LoopOptions& options,
                                          const TokenCorpus& validation,
                                          const std::string& state,
                                          TrainingRun* run,
                                          TrainingConsole* console);

}  // namespace pot

#endif  // POT_TRAINER_TRAINING_CONSOLE_H_
