#include "trainer/worker/job_runner.h"

#include <cstdio>
#include <exception>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "engine/checkpoint/directory.h"
#include "trainer/snapshot/snapshot.h"
#include "trainer/snapshot/snapshot_directory.h"
#include "trainer/worker/cpu_features.h"
#include "trainer/worker/file_transfer.h"
#include "trainer/worker/job_observer.h"
#include "trainer/worker/lease_keeper.h"
#include "trainer/worker/uploader.h"
#include "trainer/worker/work_directory.h"
#include "trainer/worker/worker_service.h"

namespace pot {
namespace {

constexpr char kThreadsNote[] = "worker.threads";
constexpr char kPrecisionNote[] = "worker.precision";
constexpr char kCpuNote[] = "worker.cpu";
constexpr size_t kMaxMessageBytes = 2048;

// Where a run goes on.
struct Resumption {
  BestEvaluation best;
  // Of a snapshot that this worker wrote; -1: of none, or of the server's.
  int64_t local_step = -1;
};

std::string SnapshotsDirectory(const std::string& job) {
  return job + "/snapshots";
}

absl::StatusOr<std::unique_ptr<TrainingRun>> CreateRun(
    const JobInputs& inputs) {
  std::vector<float> parameters(inputs.layout->size());
  POT_RETURN_IF_ERROR(
      inputs.layout->Read(inputs.base_directory, absl::MakeSpan(parameters)));
  return TrainingRun::Create(inputs.layout.get(), inputs.options.training,
                             &inputs.train, std::move(parameters),
                             inputs.teacher_layout.get(),
                             inputs.teacher_parameters);
}

// Puts the server's snapshot where the training looks for its own.
absl::Status FetchSnapshot(const JobContext& context,
                           const v1::Snapshot& snapshot,
                           const std::string& job) {
  if (snapshot.files_size() != 1) {
    return absl::FailedPreconditionError(
        absl::StrCat("the job's snapshot has ", snapshot.files_size(),
                     " files, this worker's have 1"));
  }
  const std::string fetched = job + "/fetched_snapshot";
  POT_RETURN_IF_ERROR(FetchFile(context.service, context.keeper,
                                FetchKind::kSnapshot, snapshot.files(0),
                                fetched));
  POT_ASSIGN_OR_RETURN(const Snapshot opened, Snapshot::Open(fetched));
  POT_RETURN_IF_ERROR(opened.Verify());
  if (opened.step() != snapshot.step()) {
    return absl::DataLossError(absl::StrCat("the job's snapshot of step ",
                                            snapshot.step(), " is one of step ",
                                            opened.step()));
  }
  const std::string directory =
      StepDirectory(SnapshotsDirectory(job), snapshot.step());
  POT_RETURN_IF_ERROR(MakeDirectory(SnapshotsDirectory(job)).status());
  POT_RETURN_IF_ERROR(MakeDirectory(directory).status());
  const std::string to = SnapshotFile(directory);
  if (rename(fetched.c_str(), to.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot rename ", fetched));
  }
  return absl::OkStatus();
}

// A run of oneDNN's may depend on these.
void WarnOfDifference(const JobContext& context, const Snapshot& snapshot,
                      const SnapshotMetadata& notes) {
  for (const auto& [key, here] : notes) {
    const auto found = snapshot.metadata().find(key);
    if (found == snapshot.metadata().end() || found->second == here) continue;
    context.keeper->Log(
        v1::LOG_SEVERITY_WARNING,
        absl::StrCat("the snapshot was made with ", key, " ", found->second,
                     ", this worker goes on with ", here,
                     ": the result may differ in its last bits from that of "
                     "one worker alone"));
  }
}

absl::StatusOr<Resumption> Resume(const JobContext& context,
                                  const v1::Lease& lease,
                                  const std::string& job,
                                  const JobInputs& inputs, TrainingRun* run) {
  const std::string snapshots = SnapshotsDirectory(job);
  std::vector<std::string> warnings;
  const absl::StatusOr<Snapshot> local = LatestSnapshot(snapshots, &warnings);
  if (!local.ok() && !absl::IsNotFound(local.status())) return local.status();
  const bool fetch = lease.has_snapshot() &&
                     (!local.ok() || lease.snapshot().step() > local->step());
  if (fetch) {
    POT_RETURN_IF_ERROR(FetchSnapshot(context, lease.snapshot(), job));
  }
  for (const std::string& warning : warnings) {
    context.keeper->Log(v1::LOG_SEVERITY_WARNING,
                        absl::StrReplaceAll(warning, {{job + "/", ""}}));
  }
  Resumption resumption;
  POT_ASSIGN_OR_RETURN(
      const bool resumed,
      RestoreLatest(snapshots, run, &resumption.best, nullptr));
  if (!resumed) return resumption;
  POT_ASSIGN_OR_RETURN(const Snapshot snapshot,
                       Snapshot::Open(StepDirectory(snapshots, run->step())));
  WarnOfDifference(context, snapshot, inputs.options.loop.notes);
  if (!fetch) resumption.local_step = run->step();
  context.keeper->Log(
      v1::LOG_SEVERITY_INFO,
      absl::StrCat("going on at step ", run->step(), " from ",
                   fetch ? "the server's" : "this worker's", " snapshot"));
  return resumption;
}

v1::CompleteRequest OutcomeOf(const LoopResult& result) {
  v1::CompleteRequest outcome;
  if (result.end == LoopResult::End::kPaused) {
    outcome.mutable_released();
  } else {
    outcome.mutable_trained()->set_checkpoint_id(
        UploadId(OutgoingKind::kCheckpoint, result.best.step));
  }
  return outcome;
}

// The whole job but for telling its end.
absl::StatusOr<v1::CompleteRequest> Train(const JobContext& context,
                                          const v1::Lease& lease,
                                          const std::string& job) {
  POT_ASSIGN_OR_RETURN(const std::unique_ptr<JobInputs> inputs,
                       PrepareJob(context, lease, job));
  LoopOptions& loop = inputs->options.loop;
  loop.snapshot_directory = SnapshotsDirectory(job);
  loop.notes[kThreadsNote] = absl::StrCat(context.threads);
  loop.notes[kPrecisionNote] =
      inputs->options.training.precision == Precision::kBf16 ? "bf16" : "f32";
  loop.notes[kCpuNote] = absl::StrJoin(CpuFeatures(), ",");
  POT_ASSIGN_OR_RETURN(std::unique_ptr<TrainingRun> run, CreateRun(*inputs));
  absl::StatusOr<Resumption> from =
      Resume(context, lease, job, *inputs, run.get());
  if (absl::IsFailedPrecondition(from.status()) ||
      absl::IsDataLoss(from.status())) {
    // Without what this worker has kept itself.
    context.keeper->Log(
        v1::LOG_SEVERITY_WARNING,
        absl::StrCat("a snapshot cannot be used: ", from.status().message()));
    POT_RETURN_IF_ERROR(RemoveTree(SnapshotsDirectory(job)));
    run.reset();
    POT_ASSIGN_OR_RETURN(run, CreateRun(*inputs));
    from = Resume(context, lease, job, *inputs, run.get());
  }
  POT_RETURN_IF_ERROR(from.status());

  Uploader uploader(context.service, context.keeper, job + "/outgoing");
  POT_RETURN_IF_ERROR(uploader.Recover(from->local_step));
  if (from->local_step > lease.snapshot().step()) {
    POT_RETURN_IF_ERROR(uploader.AddSnapshot(
        from->local_step, SnapshotFile(StepDirectory(loop.snapshot_directory,
                                                     from->local_step))));
  }
  const std::string unsent = job + "/unsent_evaluations";
  JobObserver::Recover(unsent, from->local_step, context.keeper);
  JobObserver observer(inputs.get(), run.get(), context.keeper, &uploader,
                       context.metrics, unsent);
  POT_ASSIGN_OR_RETURN(const LoopResult result,
                       RunTrainingLoop(loop, inputs->validation, from->best,
                                       run.get(), &observer));
  if (result.end == LoopResult::End::kCancelled) {
    return absl::CancelledError("the job was stopped");
  }
  POT_RETURN_IF_ERROR(uploader.Finish());
  return OutcomeOf(result);
}

// Whether another worker might do what failed here, and what to do about it.
v1::CompleteRequest FailureOf(const absl::Status& status,
                              const std::string& work) {
  v1::CompleteRequest outcome;
  std::string remedy;
  bool retryable = true;
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      retryable = false;
      remedy = "correct the specification or the data and submit again";
      break;
    case absl::StatusCode::kOutOfRange:
      retryable = false;
      remedy =
          "lower spec.optimizer.learning_rate, or set a smaller "
          "spec.optimizer.clip_norm, and submit again";
      break;
    case absl::StatusCode::kResourceExhausted:
      remedy =
          "free memory or disk of the worker, or start one that has more; a "
          "smaller spec.batch needs less";
      break;
    default:
      remedy = "another worker may succeed; the worker's log says more";
      break;
  }
  // Where a worker keeps its files is nothing to its submitters.
  std::string message = ReplaceInvalidUtf8(
      absl::StrReplaceAll(status.message(), {{work + "/", ""}}));
  message.resize(CompleteUtf8Prefix(
      absl::string_view(message).substr(0, kMaxMessageBytes)));
  outcome.mutable_failed()->set_message(absl::StrCat(message, "; ", remedy));
  outcome.mutable_failed()->set_retryable(retryable);
  return outcome;
}

absl::StatusOr<v1::CompleteRequest> TrainWithoutThrowing(
    const JobContext& context, const v1::Lease& lease, const std::string& job) {
  try {
    return Train(context, lease, job);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("the worker has not enough memory");
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
}

absl::Status Complete(const JobContext& context, v1::CompleteRequest outcome) {
  *outcome.mutable_lease() = context.keeper->key();
  return context.keeper->Retry(JobCommand::kNever, [&]() -> absl::Status {
    return context.service->Complete(outcome).status();
  });
}

}  // namespace

JobEnd RunJob(const JobContext& context, const v1::Lease& lease) {
  LeaseKeeper* const keeper = context.keeper;
  const absl::StatusOr<std::string> job = context.work->OpenJob(lease);
  const absl::StatusOr<v1::CompleteRequest> trained =
      job.ok() ? TrainWithoutThrowing(context, lease, *job) : job.status();

  const JobCommand command = keeper->command();
  if (command == JobCommand::kDrop) return JobEnd::kLost;
  v1::CompleteRequest outcome;
  if (command == JobCommand::kCancel) {
    outcome.mutable_cancelled();
  } else if (trained.ok()) {
    outcome = *trained;
  } else if (command == JobCommand::kPause &&
             (absl::IsCancelled(trained.status()) ||
              absl::IsUnavailable(trained.status()))) {
    outcome.mutable_released();
  } else {
    outcome = FailureOf(trained.status(), context.work->path());
    keeper->Log(v1::LOG_SEVERITY_ERROR, outcome.failed().message());
  }
  keeper->Flush();
  keeper->BeginComplete();
  absl::Status told = Complete(context, outcome);
  if (absl::IsNotFound(told) && outcome.has_trained()) {
    outcome = FailureOf(told, context.work->path());
    told = Complete(context, outcome);
  }
  if (absl::IsAborted(told)) return JobEnd::kLost;
  if (!told.ok()) {
    keeper->Log(v1::LOG_SEVERITY_ERROR,
                absl::StrCat("the server could not be told of the end: ",
                             told.message()));
    return JobEnd::kUnreported;
  }
  if (outcome.has_released()) return JobEnd::kReleased;
  if (outcome.has_failed() && outcome.failed().retryable()) {
    return JobEnd::kFailedHere;
  }
  if (job.ok()) RemoveTree(*job).IgnoreError();
  if (outcome.has_trained()) return JobEnd::kTrained;
  return outcome.has_cancelled() ? JobEnd::kCancelled : JobEnd::kFailed;
}

}  // namespace pot
