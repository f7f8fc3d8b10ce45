#include "client/job_report.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/enum_names.h"
#include "client/job_event.h"
#include "client/job_spec_report.h"
#include "client/model_report.h"
#include "client/quality_gate.h"
#include "client/table.h"
#include "client/text_format.h"

namespace pot {
namespace {

constexpr auto kRight = Table::Align::kRight;
constexpr char kNone[] = "-";

std::string Count(int64_t count) {
  return FormatCount(static_cast<uint64_t>(std::max<int64_t>(0, count)));
}

// In digits while it has at most 18 of them.
std::string Product(int64_t a, int64_t b) {
  const double product = static_cast<double>(a) * static_cast<double>(b);
  if (product >= 0 && product < 1e18) {
    return FormatCount(static_cast<uint64_t>(product));
  }
  return absl::StrFormat("%.3g", product);
}

std::string UtcTime(const google::protobuf::Timestamp& time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", ToTime(time),
                          absl::UTCTimeZone());
}

// From the first worker to the end; empty before it.
std::string TimeTaken(const v1::QatJob& job) {
  if (!job.has_start_time() || !job.has_end_time()) return "";
  return FormatSeconds(
      absl::ToDoubleSeconds(ToTime(job.end_time()) - ToTime(job.start_time())));
}

// Lines of a label and a value, and tables below them.
class Page {
 public:
  // Nothing for an empty value.
  void Add(const std::string& label, const std::string& value) {
    if (value.empty()) return;
    absl::StrAppendFormat(&text_, "%-16s%s\n", label, value);
  }
  void AddIndented(const std::string& lines) {
    for (const absl::string_view line :
         absl::StrSplit(absl::StripSuffix(lines, "\n"), '\n')) {
      absl::StrAppend(&text_, "  ", line, "\n");
    }
  }
  std::string Take() { return std::move(text_); }

 private:
  std::string text_;
};

std::string FormatGateTable(const v1::GateReport& gate) {
  Table table({{"figure"}, {"base", kRight}, {"checkpoint", kRight}, {""}});
  const v1::CheckpointEvaluation& base = gate.base();
  const v1::CheckpointEvaluation& checkpoint = gate.checkpoint();
  const auto fixed = [](double value) {
    return absl::StrFormat("%.4f", value);
  };
  table.AddRow({"perplexity", fixed(base.perplexity()),
                fixed(checkpoint.perplexity()), FormatPerplexityRatio(gate)});
  table.AddRow({"nats per token", fixed(base.nats_per_token()),
                fixed(checkpoint.nats_per_token()),
                absl::StrFormat("\u00b1 %.4f", checkpoint.standard_error())});
  table.AddRow({"bits per byte", fixed(base.bits_per_byte()),
                fixed(checkpoint.bits_per_byte()), ""});
  if (checkpoint.has_mean_kl_nats()) {
    table.AddRow({"KL from base", "",
                  absl::StrFormat("%.5f", checkpoint.mean_kl_nats()), "nats"});
  }
  if (checkpoint.has_top1_agreement()) {
    table.AddRow({"same top token", "",
                  absl::StrFormat("%.2f %%", 100 * checkpoint.top1_agreement()),
                  ""});
  }
  table.AddRow({"tokens", Count(base.tokens()), Count(checkpoint.tokens()),
                absl::StrCat("step ", Count(checkpoint.step()))});
  return table.ToString();
}

void AddProgress(const v1::QatJob& job, Page* page) {
  const v1::JobProgress& progress = job.progress();
  if (progress.step() > 0 || progress.total_steps() > 0) {
    page->Add("progress", absl::StrCat(FormatSteps(progress), ", ",
                                       Count(progress.tokens()), " tokens"));
  }
  if (progress.step() == 0) return;
  page->Add("loss", absl::StrFormat("%.4f smoothed, %.4f at the last step",
                                    progress.smoothed_train_loss(),
                                    progress.train_loss()));
  page->Add(
      "optimizer",
      absl::StrFormat("learning rate %.3g, norm of the gradient %.3g",
                      progress.learning_rate(), progress.gradient_norm()));
  page->Add("speed", FormatSpeed(progress));
  if (progress.has_eta_seconds() && !job.has_end_time()) {
    page->Add("to go", FormatSeconds(progress.eta_seconds()));
  }
}

void AddGate(const v1::QatJob& job, Page* page) {
  const std::string conditions = FormatQualityGate(job.spec().gate());
  const std::string wanted = conditions.empty() ? "none" : conditions;
  if (!job.has_gate()) {
    page->Add("gate", wanted);
    return;
  }
  page->Add("gate", absl::StrCat(job.gate().passed() ? "passed" : "not passed",
                                 " (", wanted, ")"));
  page->AddIndented(FormatGateTable(job.gate()));
  for (const std::string& violation : job.gate().violations()) {
    page->AddIndented(absl::StrCat("violated: ", Printable(violation)));
  }
}

}  // namespace

std::string FormatJobTable(
    const google::protobuf::RepeatedPtrField<v1::QatJob>& jobs,
    absl::Time now) {
  Table table({{"job"},
               {"state"},
               {"base"},
               {"format"},
               {"step", kRight},
               {"loss", kRight},
               {"to go", kRight},
               {"published"},
               {"by"},
               {"age", kRight}});
  for (const v1::QatJob& job : jobs) {
    const v1::JobProgress& progress = job.progress();
    table.AddRow(
        {Printable(job.job_id()), JobStateName(job.state()),
         job.spec().base().has_digest() ? Printable(job.spec().base().name())
                                        : FormatBase(job.spec()),
         FormatName(job.spec().quantization()),
         absl::StrCat(
             Count(progress.step()), "/",
             Count(progress.total_steps() > 0 ? progress.total_steps()
                                              : job.spec().schedule().steps())),
         progress.step() > 0
             ? absl::StrFormat("%.4f", progress.smoothed_train_loss())
             : kNone,
         progress.has_eta_seconds() && !job.has_end_time()
             ? FormatSeconds(progress.eta_seconds())
             : kNone,
         job.has_published() ? FormatIdentity(job.published()) : kNone,
         job.submitter().empty() ? kNone : Printable(job.submitter()),
         job.has_create_time() ? FormatAge(now - ToTime(job.create_time()))
                               : kNone});
  }
  return table.ToString();
}

std::string FormatJob(const v1::QatJob& job, bool all_fields) {
  Page page;
  page.Add("job", Printable(job.job_id()));
  // A dry run has none.
  if (job.state() != v1::QAT_JOB_STATE_UNSPECIFIED) {
    page.Add("state", JobStateName(job.state()));
  }
  page.Add("message", Printable(job.state_message()));
  page.Add("base", FormatBase(job.spec()));
  page.Add("data", FormatData(job.spec().data()));
  if (job.has_create_time()) {
    page.Add("submitted", absl::StrCat(UtcTime(job.create_time()),
                                       job.submitter().empty() ? "" : " by ",
                                       Printable(job.submitter())));
  }
  if (job.has_start_time()) page.Add("started", UtcTime(job.start_time()));
  if (job.has_end_time()) {
    const std::string taken = TimeTaken(job);
    page.Add("ended", absl::StrCat(UtcTime(job.end_time()),
                                   taken.empty() ? "" : ", after ", taken));
  }
  if (!job.worker().empty()) {
    page.Add("worker",
             absl::StrCat(Printable(job.worker()),
                          job.attempts() > 1
                              ? absl::StrCat(", attempt ", job.attempts())
                              : ""));
  }
  AddProgress(job, &page);
  const auto fields = ListSpecFields(job.spec(), all_fields);
  page.Add("specification", all_fields ? "every field"
                            : fields.empty()
                                ? "the defaults"
                                : "what differs from the defaults");
  size_t width = 0;
  for (const auto& field : fields) width = std::max(width, field.first.size());
  for (const auto& [path, value] : fields) {
    page.AddIndented(
        absl::StrFormat("%-*s  %s", static_cast<int>(width), path, value));
  }
  AddGate(job, &page);
  if (job.has_published()) {
    page.Add("published",
             absl::StrCat(FormatIdentity(job.published()), " (sha256 ",
                          Printable(job.published().sha256()), ")"));
  }
  return page.Take();
}

std::string FormatCheckpointTable(
    const google::protobuf::RepeatedPtrField<v1::JobCheckpoint>& checkpoints) {
  Table table({{"checkpoint"},
               {"step", kRight},
               {"perplexity", kRight},
               {"nats per token", kRight},
               {"KL", kRight},
               {"same top token", kRight},
               {"size", kRight},
               {"gate"},
               {"published"},
               {""}});
  for (const v1::JobCheckpoint& checkpoint : checkpoints) {
    const v1::CheckpointEvaluation& evaluation = checkpoint.evaluation();
    const bool evaluated = checkpoint.has_evaluation();
    table.AddRow(
        {Printable(checkpoint.checkpoint_id()), Count(checkpoint.step()),
         evaluated ? absl::StrFormat("%.4f", evaluation.perplexity()) : kNone,
         evaluated
             ? absl::StrFormat("%.4f \u00b1 %.4f", evaluation.nats_per_token(),
                               evaluation.standard_error())
             : kNone,
         evaluation.has_mean_kl_nats()
             ? absl::StrFormat("%.5f", evaluation.mean_kl_nats())
             : kNone,
         evaluation.has_top1_agreement()
             ? absl::StrFormat("%.2f %%", 100 * evaluation.top1_agreement())
             : kNone,
         FormatBytes(checkpoint.size_bytes()),
         !checkpoint.has_gate()       ? kNone
         : checkpoint.gate().passed() ? "passed"
                                      : "not passed",
         checkpoint.has_published() ? FormatIdentity(checkpoint.published())
                                    : kNone,
         checkpoint.best() ? "best" : ""});
  }
  return table.ToString();
}

std::string FormatEstimate(const v1::JobEstimate& estimate) {
  Page page;
  page.Add("steps", Count(estimate.steps()));
  page.Add("tokens", absl::StrFormat(
                         "%s, %s per step",
                         Product(estimate.steps(), estimate.tokens_per_step()),
                         Count(estimate.tokens_per_step())));
  page.Add("epochs", absl::StrFormat("%.2f", estimate.epochs()));
  page.Add(
      "time",
      estimate.has_duration_seconds()
          ? absl::StrCat("about ", FormatSeconds(estimate.duration_seconds()))
          : "unknown before the first job of this kind");
  page.Add("memory", estimate.memory_bytes() > 0
                         ? absl::StrCat(FormatBytes(estimate.memory_bytes()),
                                        " of the worker's at most")
                         : "");
  return page.Take();
}

std::string FormatEstimateLine(const v1::JobEstimate& estimate) {
  return absl::StrCat(
      Count(estimate.steps()), " steps of ", Count(estimate.tokens_per_step()),
      " tokens (", absl::StrFormat("%.2f", estimate.epochs()), " epochs)",
      estimate.has_duration_seconds()
          ? absl::StrCat(", about ", FormatSeconds(estimate.duration_seconds()))
          : "",
      estimate.memory_bytes() > 0
          ? absl::StrCat(", ", FormatBytes(estimate.memory_bytes()))
          : "");
}

std::string FormatOutcome(const v1::QatJob& job) {
  std::string text =
      job.has_published()
          ? absl::StrCat("published as ", FormatIdentity(job.published()))
      : job.state() == v1::QAT_JOB_STATE_SUCCEEDED
          ? "trained, not published"
          : Printable(job.state_message());
  const std::string taken = TimeTaken(job);
  if (!taken.empty()) {
    absl::StrAppend(&text, text.empty() ? "after " : ", after ", taken);
  }
  if (job.has_gate()) {
    const std::string ratio = FormatPerplexityRatio(job.gate());
    absl::StrAppendFormat(&text, "; perplexity %.4f",
                          job.gate().checkpoint().perplexity());
    if (!ratio.empty()) absl::StrAppend(&text, ", ", ratio, " the base's");
  }
  return text;
}

}  // namespace pot
