#include "trainer/worker/job_observer.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "trainer/training/evaluate_text.h"
#include "trainer/worker/worker_log.h"

namespace pot {
namespace {

// JobProgress.smoothed_train_loss is defined by it.
constexpr double kLossSmoothing = 0.98;
constexpr double kTimeSmoothing = 0.9;

constexpr absl::Duration kLongestRest = absl::Milliseconds(500);
constexpr size_t kMaxUnsentBytes = size_t{16} << 20;

}  // namespace

JobObserver::JobObserver(const JobInputs* inputs, const TrainingRun* run,
                         LeaseKeeper* keeper, Uploader* uploader,
                         WorkerMetrics* metrics, std::string unsent)
    : inputs_(*inputs),
      run_(*run),
      keeper_(keeper),
      uploader_(uploader),
      metrics_(metrics),
      unsent_(std::move(unsent)),
      steps_(run->options().schedule.steps),
      tokens_per_step_(run->options().batch.sequences *
                       run->options().batch.micro_batches *
                       run->options().batch.context) {}

void JobObserver::Recover(const std::string& unsent, int64_t step,
                          LeaseKeeper* keeper) {
  v1::ReportEventsRequest events;
  const absl::StatusOr<std::string> bytes = ReadFile(unsent, kMaxUnsentBytes);
  if (!bytes.ok() || !events.ParseFromString(*bytes)) return;
  for (const v1::WorkerEvent& event : events.events()) {
    if (event.evaluation().step() <= step) {
      keeper->ReportEvaluation(event.evaluation());
    }
  }
}

absl::Status JobObserver::KeepUnsent() const {
  const std::string staging = unsent_ + ".partial";
  POT_RETURN_IF_ERROR(
      WriteFile(staging, keeper_->UnsentEvaluations().SerializeAsString()));
  if (std::rename(staging.c_str(), unsent_.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot rename ", staging));
  }
  return absl::OkStatus();
}

void JobObserver::Rest() {
  const absl::Duration busy = absl::FromChrono(Clock::now() - busy_since_);
  // In pieces, as the ratio changes meanwhile; a directive that ends the job
  // ends the rest.
  for (absl::Duration rested; keeper_->command() == JobCommand::kContinue;) {
    const double ratio = keeper_->duty_ratio();
    const absl::Duration left = busy * ((1 - ratio) / ratio) - rested;
    if (left <= absl::ZeroDuration()) break;
    const absl::Duration piece = std::min(left, kLongestRest);
    keeper_->Sleep(piece, JobCommand::kStopEarly);
    rested += piece;
  }
  busy_since_ = Clock::now();
}

LoopCommand JobObserver::Next() {
  Rest();
  switch (keeper_->command()) {
    case JobCommand::kContinue:
      return LoopCommand::kContinue;
    case JobCommand::kStopEarly:
      return LoopCommand::kStopEarly;
    case JobCommand::kPause:
      return LoopCommand::kPause;
    case JobCommand::kCancel:
    case JobCommand::kDrop:
    case JobCommand::kNever:
      break;
  }
  return LoopCommand::kCancel;
}

void JobObserver::OnStep(const StepReport& report) {
  const Clock::time_point now = Clock::now();
  const double seconds =
      std::chrono::duration<double>(now - last_step_).count();
  last_step_ = now;
  const bool first = reported_steps_++ == 0;
  const auto smooth = [first](double keep, double value, double* mean) {
    *mean = first ? value : keep * *mean + (1 - keep) * value;
  };
  smooth(kLossSmoothing, report.loss, &smoothed_loss_);
  smooth(kTimeSmoothing, seconds, &seconds_per_step_);
  v1::JobProgress progress;
  progress.set_step(report.step);
  progress.set_total_steps(steps_);
  progress.set_tokens(report.step * tokens_per_step_);
  progress.set_train_loss(report.loss);
  progress.set_smoothed_train_loss(smoothed_loss_);
  progress.set_learning_rate(report.rate);
  progress.set_gradient_norm(report.gradient_norm);
  progress.set_tokens_per_second(static_cast<double>(tokens_per_step_) /
                                 std::max(seconds_per_step_, 1e-9));
  progress.set_eta_seconds(static_cast<double>(steps_ - report.step) *
                           seconds_per_step_);
  keeper_->ReportProgress(progress);
  if (metrics_ != nullptr) {
    metrics_->Step(tokens_per_step_, progress.tokens_per_second(), report.loss);
  }
}

absl::Status JobObserver::OnEvaluation(const EvaluationReport& report) {
  const double nats = report.sums.mean_nats();
  if (!std::isfinite(nats)) {
    return absl::OutOfRangeError(absl::StrFormat(
        "the validation loss at step %d is not finite", report.step));
  }
  v1::CheckpointEvaluation evaluation;
  evaluation.set_step(report.step);
  evaluation.set_tokens(report.sums.predictions);
  evaluation.set_nats_per_token(nats);
  evaluation.set_perplexity(std::exp(nats));
  evaluation.set_bits_per_byte(
      report.sums.nats / (std::log(2.0) * static_cast<double>(std::max<int64_t>(
                                              1, inputs_.validation_bytes))));
  evaluation.set_standard_error(StandardError(report.sums));
  keeper_->ReportEvaluation(evaluation);
  POT_RETURN_IF_ERROR(KeepUnsent());
  LogWorker(absl::StrFormat("%s: step %d: %.4f nats, perplexity %.3f%s",
                            keeper_->key().job_id(), report.step, nats,
                            evaluation.perplexity(),
                            report.best ? ", the best so far" : ""));
  // What could not be sent before will not be sent now.
  POT_RETURN_IF_ERROR(uploader_->status());
  if (report.best) {
    POT_ASSIGN_OR_RETURN(const std::string directory,
                         uploader_->StageCheckpoint());
    POT_RETURN_IF_ERROR(run_.ExportQuantized(inputs_.model_files,
                                             inputs_.provenance, directory));
    POT_RETURN_IF_ERROR(uploader_->AddCheckpoint(evaluation));
  }
  last_step_ = Clock::now();
  return absl::OkStatus();
}

absl::Status JobObserver::OnSnapshot(int64_t step, const std::string& path) {
  const absl::Status status = uploader_->AddSnapshot(step, path);
  last_step_ = Clock::now();
  return status;
}

}  // namespace pot
