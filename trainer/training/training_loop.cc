#include "trainer/training/training_loop.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "trainer/snapshot/snapshot.h"

namespace pot {
namespace {

constexpr char kBestStep[] = "best_step";
constexpr char kBestNats[] = "best_nats";
constexpr char kEvaluationsSince[] = "evaluations_since_best";

SnapshotMetadata NotesOf(const BestEvaluation& best, SnapshotMetadata notes) {
  notes[kBestStep] = absl::StrCat(best.step);
  notes[kBestNats] = absl::StrFormat("%.17g", best.nats);
  notes[kEvaluationsSince] = absl::StrCat(best.evaluations_since);
  return notes;
}

absl::Status CheckOptions(const LoopOptions& options) {
  if (options.evaluate_every < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("evaluations come every 1 step or more, not every ",
                     options.evaluate_every));
  }
  if (options.snapshot_every < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("snapshots come every 1 step or more, not every ",
                     options.snapshot_every));
  }
  if (options.keep_snapshots < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "at least 1 snapshot is kept, not ", options.keep_snapshots));
  }
  return absl::OkStatus();
}

absl::Status SaveSnapshot(const LoopOptions& options,
                          const BestEvaluation& best, const TrainingRun& run,
                          TrainingObserver* observer) {
  if (options.snapshot_directory.empty()) return absl::OkStatus();
  POT_ASSIGN_OR_RETURN(
      const std::string path,
      run.Save(options.snapshot_directory, NotesOf(best, options.notes)));
  POT_RETURN_IF_ERROR(
      PruneSnapshots(options.snapshot_directory, options.keep_snapshots));
  return observer->OnSnapshot(run.step(), path);
}

absl::Status EvaluateRun(const LoopOptions& options,
                         const TokenCorpus& validation, BestEvaluation* best,
                         TrainingRun* run, TrainingObserver* observer) {
  EvaluationReport report;
  report.step = run->step();
  POT_ASSIGN_OR_RETURN(
      report.sums,
      run->Evaluate(
          validation, options.protocol, options.evaluation_tokens,
          [observer] { return observer->Next() == LoopCommand::kCancel; }));
  const double nats = report.sums.mean_nats();
  report.best = best->step < 0 || nats < best->nats;
  if (report.best) {
    *best = {report.step, nats, 0};
  } else {
    ++best->evaluations_since;
  }
  return observer->OnEvaluation(report);
}

}  // namespace

absl::StatusOr<LoopResult> RunTrainingLoop(const LoopOptions& options,
                                           const TokenCorpus& validation,
                                           BestEvaluation best,
                                           TrainingRun* run,
                                           TrainingObserver* observer) {
  POT_RETURN_IF_ERROR(CheckOptions(options));
  const int64_t steps = run->options().schedule.steps;
  LoopResult result;
  result.best = best;
  int64_t evaluated = -1, saved = -1;
  // A run that was paused at its start has been evaluated already.
  bool evaluate = options.evaluate_start && run->step() == 0 && best.step < 0;
  while (true) {
    const LoopCommand command = observer->Next();
    if (command == LoopCommand::kCancel) {
      result.end = LoopResult::End::kCancelled;
      return result;
    }
    if (command == LoopCommand::kPause) {
      if (saved != run->step()) {
        POT_RETURN_IF_ERROR(SaveSnapshot(options, result.best, *run, observer));
      }
      result.end = LoopResult::End::kPaused;
      return result;
    }
    const bool out_of_patience =
        options.patience > 0 &&
        result.best.evaluations_since >= options.patience;
    const bool last = run->step() >= steps || out_of_patience ||
                      command == LoopCommand::kStopEarly;
    if (!last && !evaluate) {
      POT_ASSIGN_OR_RETURN(const StepReport report, run->Step());
      observer->OnStep(report);
      evaluate = run->step() % options.evaluate_every == 0;
    }
    if ((evaluate || last) && evaluated != run->step()) {
      const absl::Status status =
          EvaluateRun(options, validation, &result.best, run, observer);
      if (absl::IsCancelled(status)) {
        result.end = LoopResult::End::kCancelled;
        return result;
      }
      POT_RETURN_IF_ERROR(status);
      evaluated = run->step();
    }
    evaluate = false;
    if ((last ||
         (run->step() > 0 && run->step() % options.snapshot_every == 0)) &&
        saved != run->step()) {
      POT_RETURN_IF_ERROR(SaveSnapshot(options, result.best, *run, observer));
      saved = run->step();
    }
    if (last) {
      if (run->step() < steps) result.end = LoopResult::End::kStoppedEarly;
      return result;
    }
  }
}

absl::StatusOr<bool> RestoreLatest(const std::string& directory,
                                   TrainingRun* run, BestEvaluation* best,
                                   std::vector<std::string>* warnings) {
  const absl::StatusOr<Snapshot> snapshot = LatestSnapshot(directory, warnings);
  if (absl::IsNotFound(snapshot.status())) return false;
  POT_RETURN_IF_ERROR(snapshot.status());
  POT_RETURN_IF_ERROR(run->Restore(*snapshot));
  const SnapshotMetadata& notes = snapshot->metadata();
  const auto note = [&](const char* key) {
    const auto found = notes.find(key);
    return found == notes.end() ? std::string() : found->second;
  };
  *best = BestEvaluation();
  if (!absl::SimpleAtoi(note(kBestStep), &best->step) ||
      !absl::SimpleAtod(note(kBestNats), &best->nats) ||
      !absl::SimpleAtoi(note(kEvaluationsSince), &best->evaluations_since)) {
    return absl::DataLossError(
        absl::StrCat(snapshot->path(), ": notes of the training are missing"));
  }
  return true;
}

}  // namespace pot
