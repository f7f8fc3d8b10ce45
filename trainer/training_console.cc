#include "trainer/training_console.h"

#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "trainer/training/evaluate_text.h"

namespace pot {
namespace {

constexpr double kSmoothing = 0.98;

volatile std::sig_atomic_t g_interrupted = 0;

void Interrupt(int signal) {
  g_interrupted = 1;
  std::signal(signal, SIG_DFL);
}

// The line that ends a training: how it ended, and its best evaluation.
std::string DescribeResult(const LoopResult& result, const std::string& state) {
  std::string line;
  switch (result.end) {
    case LoopResult::End::kDone:
      line = "done";
      break;
    case LoopResult::End::kStoppedEarly:
      line = "stopped early";
      break;
    case LoopResult::End::kPaused:
      line = state.empty()
                 ? "interrupted; without --state nothing was kept"
                 : absl::StrCat("interrupted; the same command goes on from ",
                                state);
      break;
    case LoopResult::End::kCancelled:
      line = "cancelled";
      break;
  }
  if (result.best.step >= 0) {
    absl::StrAppendFormat(&line, "; best: %.4f nats at step %d",
                          result.best.nats, result.best.step);
  }
  return line;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TrainingConsole>> TrainingConsole::Create(
    const TrainingOptions& options, const std::string& state,
    std::function<absl::Status(const EvaluationReport&)> on_best) {
  std::FILE* metrics = nullptr;
  if (!state.empty()) {
    std::error_code error;
    std::filesystem::create_directories(state, error);
    const std::string path = state + "/metrics.jsonl";
    metrics = std::fopen(path.c_str(), "a");
    if (metrics == nullptr) {
      return absl::InternalError(
          absl::StrCat("cannot write ", path, ": ", std::strerror(errno)));
    }
  }
  return std::unique_ptr<TrainingConsole>(
      new TrainingConsole(options, std::move(on_best), metrics));
}

TrainingConsole::TrainingConsole(
    const TrainingOptions& options,
    std::function<absl::Status(const EvaluationReport&)> on_best,
    std::FILE* metrics)
    : steps_(options.schedule.steps),
      tokens_per_step_(options.batch.sequences * options.batch.micro_batches *
                       options.batch.context),
      on_best_(std::move(on_best)),
      metrics_(metrics),
      bar_("training") {
  g_interrupted = 0;
  std::signal(SIGINT, Interrupt);
  std::signal(SIGTERM, Interrupt);
}

TrainingConsole::~TrainingConsole() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
  if (metrics_ != nullptr) std::fclose(metrics_);
}

LoopCommand TrainingConsole::Next() {
  return g_interrupted != 0 ? LoopCommand::kPause : LoopCommand::kContinue;
}

void TrainingConsole::OnStep(const StepReport& report) {
  const Clock::time_point now = Clock::now();
  const double seconds =
      std::chrono::duration<double>(now - last_step_).count();
  last_step_ = now;
  const double keep = any_step_ ? kSmoothing : 0;
  smoothed_loss_ = keep * smoothed_loss_ + (1 - keep) * report.loss;
  seconds_per_step_ = keep * seconds_per_step_ + (1 - keep) * seconds;
  any_step_ = true;
  const double speed =
      static_cast<double>(tokens_per_step_) / std::max(seconds_per_step_, 1e-9);
  std::string note =
      absl::StrFormat("step %d  loss %.4f", report.step, smoothed_loss_);
  if (validation_nats_ > 0) {
    absl::StrAppendFormat(&note, "  val %.4f", validation_nats_);
  }
  absl::StrAppendFormat(&note, "  %.0f tokens/s", speed);
  bar_.Update(report.step, steps_, note);
  if (metrics_ != nullptr) {
    absl::FPrintF(metrics_,
                  "{\"step\":%d,\"loss\":%.6g,\"nats\":%.6g,\"rate\":%.6g,"
                  "\"gradient_norm\":%.6g,\"seconds\":%.4f}\n",
                  report.step, report.loss, report.nats, report.rate,
                  report.gradient_norm, seconds);
  }
}

absl::Status TrainingConsole::OnEvaluation(const EvaluationReport& report) {
  validation_nats_ = report.sums.mean_nats();
  const double error = StandardError(report.sums);
  bar_.Print(absl::StrFormat(
      "step %d: %.4f ± %.4f nats on %d predictions, perplexity %.3f%s",
      report.step, validation_nats_, error, report.sums.predictions,
      std::exp(validation_nats_), report.best ? ", the best so far" : ""));
  if (metrics_ != nullptr) {
    absl::FPrintF(metrics_,
                  "{\"step\":%d,\"validation_nats\":%.9g,"
                  "\"standard_error\":%.4g,\"predictions\":%d}\n",
                  report.step, validation_nats_, error,
                  report.sums.predictions);
    std::fflush(metrics_);
  }
  absl::Status status;
  if (report.best && on_best_ != nullptr) status = on_best_(report);
  last_step_ = Clock::now();
  return status;
}

absl::Status TrainingConsole::OnSnapshot(int64_t, const std::string&) {
  last_step_ = Clock::now();
  return absl::OkStatus();
}

absl::StatusOr<LoopResult> TrainFromState(const LoopOptions& options,
                                          const TokenCorpus& validation,
                                          const std::string& state,
                                          TrainingRun* run,
                                          TrainingConsole* console) {
  BestEvaluation best;
  if (!state.empty()) {
    std::vector<std::string> warnings;
    POT_ASSIGN_OR_RETURN(const bool resumed,
                         RestoreLatest(state, run, &best, &warnings));
    for (const std::string& warning : warnings) console->Print(warning);
    if (resumed) console->Print(absl::StrCat("going on at step ", run->step()));
  }
  POT_ASSIGN_OR_RETURN(
      const LoopResult result,
      RunTrainingLoop(options, validation, best, run, console));
  console->Print(DescribeResult(result, state));
  if (result.end == LoopResult::End::kPaused ||
      result.end == LoopResult::End::kCancelled) {
    return absl::CancelledError("interrupted");
  }
  return result;
}

}  // namespace pot
