// A training from its first step to its last: evaluations, snapshots, early
// stopping, and the commands of whoever watches it.
#ifndef POT_TRAINER_TRAINING_TRAINING_LOOP_H_
#define POT_TRAINER_TRAINING_TRAINING_LOOP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/gpt2/evaluation.h"
#include "trainer/data/token_corpus.h"
#include "trainer/training/training_run.h"

namespace pot {

struct LoopOptions {
  // Steps between evaluations, and the last step always. At least 1.
  int64_t evaluate_every = 100;
  // Before the first step, too: with quantization, what it gives untrained.
  bool evaluate_start = false;
  EvaluationProtocol protocol;
  int64_t evaluation_tokens = -1;  // of the validation text; -1: all
  // Stops after this many evaluations without a new best one. 0: never.
  int patience = 0;
  // Steps between snapshots, and the last step always. At least 1.
  int64_t snapshot_every = 100;
  // Empty: none are written.
  std::string snapshot_directory;
  int64_t keep_snapshots = 2;
  // Kept in every snapshot, as the caller's own.
  SnapshotMetadata notes;
};

// What the watcher of a training wants next.
enum class LoopCommand {
  kContinue,
  // Make this the last step: evaluate and end.
  kStopEarly,
  // Snapshot and return.
  kPause,
  // Return at once.
  kCancel,
};

struct EvaluationReport {
  int64_t step = 0;
  LossSums sums;
  bool best = false;  // lowest mean nats so far
};

// Best evaluation of a run, kept through snapshots.
struct BestEvaluation {
  int64_t step = -1;  // none yet
  double nats = 0;
  int64_t evaluations_since = 0;
};

class TrainingObserver {
 public:
  virtual ~TrainingObserver() = default;

  // After every step, and before the first. Asked between micro-evaluations
  // too, where only kCancel is obeyed.
  virtual LoopCommand Next() = 0;
  virtual void OnStep(const StepReport& report) = 0;
  // The run can be exported meanwhile. A run that was killed and goes on from a
  // snapshot may report an evaluation again, with the same figures.
  virtual absl::Status OnEvaluation(const EvaluationReport& report) = 0;
  // `path`: of the file.
  virtual absl::Status OnSnapshot(int64_t step, const std::string& path) = 0;
};

struct LoopResult {
  enum class End { kDone, kStoppedEarly, kPaused, kCancelled };
  End end = End::kDone;
  BestEvaluation best;
};

// Goes on from `run`'s step, with `best` as of then, to the end of its
// schedule. Pausing and resuming change nothing in what is computed.
// INVALID_ARGUMENT for options outside their limits.
absl::StatusOr<LoopResult> RunTrainingLoop(const LoopOptions& options,
                                           const TokenCorpus& validation,
                                           BestEvaluation best,
                                           TrainingRun* run,
                                           TrainingObserver* observer);

// Restores `run` from the newest good snapshot in the directory; `best` and
// `warnings` (about damaged ones) are set. False when there is none.
absl::StatusOr<bool> RestoreLatest(const std::string& directory,
                                   TrainingRun* run, BestEvaluation* best,
                                   std::vector<std::string>* warnings);

}  // namespace pot

#endif  // POT_TRAINER_TRAINING_TRAINING_LOOP_H_
