#include "client/job_event.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "client/enum_names.h"
#include "client/model_report.h"
#include "client/text_format.h"

namespace pot {
namespace {

std::string Count(int64_t count) {
  return count < 0 ? absl::StrCat(count)
                   : FormatCount(static_cast<uint64_t>(count));
}

std::string FormatStateChange(const v1::JobStateChange& change) {
  std::string text;
  if (change.from() != v1::QAT_JOB_STATE_UNSPECIFIED) {
    absl::StrAppend(&text, JobStateName(change.from()), " -> ");
  }
  absl::StrAppend(&text, JobStateName(change.to()));
  if (!change.actor().empty()) {
    absl::StrAppend(&text, " by ", Printable(change.actor()));
  }
  if (!change.message().empty()) {
    absl::StrAppend(&text, ": ", Printable(change.message()));
  }
  return text;
}

std::string FormatProgress(const v1::JobProgress& progress) {
  std::string text = absl::StrFormat("%s: loss %.4f", FormatSteps(progress),
                                     progress.smoothed_train_loss());
  const std::string speed = FormatSpeed(progress);
  if (!speed.empty()) absl::StrAppend(&text, ", ", speed);
  if (progress.has_eta_seconds()) {
    absl::StrAppend(&text, ", ", FormatSeconds(progress.eta_seconds()),
                    " to go");
  }
  return text;
}

std::string FormatGate(const v1::GateReport& gate) {
  std::string text =
      absl::StrCat(gate.passed() ? "gate passed" : "gate not passed", ": ",
                   FormatEvaluation(gate.checkpoint()));
  const std::string ratio = FormatPerplexityRatio(gate);
  if (!ratio.empty()) absl::StrAppend(&text, ", ", ratio, " the base's");
  if (!gate.violations().empty()) {
    absl::StrAppend(&text, "; ",
                    Printable(absl::StrJoin(gate.violations(), "; ")));
  }
  return text;
}

std::string FormatDetail(const v1::JobEvent& event, bool best) {
  switch (event.detail_case()) {
    case v1::JobEvent::kStateChange:
      return FormatStateChange(event.state_change());
    case v1::JobEvent::kProgress:
      return FormatProgress(event.progress());
    case v1::JobEvent::kEvaluation:
      return absl::StrCat("step ", Count(event.evaluation().step()), ": ",
                          FormatEvaluation(event.evaluation()),
                          best ? ", best so far" : "");
    case v1::JobEvent::kCheckpoint:
      return absl::StrCat("step ", Count(event.checkpoint().step()),
                          ": checkpoint ",
                          Printable(event.checkpoint().checkpoint_id()), ", ",
                          FormatBytes(event.checkpoint().size_bytes()));
    case v1::JobEvent::kGate:
      return FormatGate(event.gate());
    case v1::JobEvent::kPublished:
      return absl::StrCat("published as ", FormatIdentity(event.published()));
    case v1::JobEvent::kLog:
      return absl::StrCat(SeverityName(event.log().severity()), ": ",
                          Printable(event.log().text()));
    case v1::JobEvent::DETAIL_NOT_SET:
      break;
  }
  // From a newer server.
  return absl::StrCat("event ", event.sequence());
}

}  // namespace

std::string FormatJobEvent(const v1::JobEvent& event, bool best) {
  return absl::StrCat(
      absl::FormatTime("%H:%M:%S", ToTime(event.time()), absl::UTCTimeZone()),
      " ", FormatDetail(event, best));
}

std::string FormatEvaluation(const v1::CheckpointEvaluation& evaluation) {
  std::string text =
      absl::StrFormat("perplexity %.4f (%.4f \u00b1 %.4f nats), %.4f bits/byte",
                      evaluation.perplexity(), evaluation.nats_per_token(),
                      evaluation.standard_error(), evaluation.bits_per_byte());
  if (evaluation.has_mean_kl_nats()) {
    absl::StrAppendFormat(&text, ", KL %.5f", evaluation.mean_kl_nats());
  }
  if (evaluation.has_top1_agreement()) {
    absl::StrAppendFormat(&text, ", top-1 %.2f %%",
                          100 * evaluation.top1_agreement());
  }
  return text;
}

std::string FormatPerplexityRatio(const v1::GateReport& gate) {
  if (!(gate.base().perplexity() > 0)) return "";
  return absl::StrFormat(
      "%.4fx", gate.checkpoint().perplexity() / gate.base().perplexity());
}

std::string FormatIdentity(const v1::ModelIdentity& model) {
  return absl::StrCat(Printable(model.name()), "@", model.version());
}

std::string FormatSpeed(const v1::JobProgress& progress) {
  const double speed = progress.tokens_per_second();
  // Beyond, it is no measurement; also refuses NaN.
  if (!(speed > 0 && speed < 1e15)) return "";
  return absl::StrCat(FormatCount(static_cast<uint64_t>(speed)), " tokens/s");
}

std::string FormatSteps(const v1::JobProgress& progress) {
  if (progress.total_steps() <= 0) {
    return absl::StrCat("step ", Count(progress.step()));
  }
  return absl::StrFormat("step %s of %s (%.0f %%)", Count(progress.step()),
                         Count(progress.total_steps()),
                         100.0 * static_cast<double>(progress.step()) /
                             static_cast<double>(progress.total_steps()));
}

}  // namespace pot
