#include "trainer/quantize_job.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/base/thread_pool.h"

namespace pot {
namespace {

constexpr char kGptq[] = "gptq";

bool IsGptq(const QuantizeJob& job) {
  return job.quantize.method == kGptq && job.quantize.format != kFloatFormat;
}

// How what the method leaves alone is rounded.
absl::StatusOr<QuantizeModelOptions> ParseRounding(const QuantizeJob& job) {
  QuantizeFlags rounding = job.quantize;
  // GPTQ rounds to nearest, as rtn does.
  if (IsGptq(job) || rounding.method == "rtn") rounding.method = "nearest";
  return ParseQuantizeFlags(rounding);
}

}  // namespace

absl::Status CheckQuantizeJob(const QuantizeJob& job) {
  const bool named = !job.calibration.texts.empty();
  if (named && !IsGptq(job)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--calibration is for --method ", kGptq, ", not ",
                     Quote(job.quantize.method)));
  }
  if (!named && IsGptq(job) && job.calibration_text == nullptr) {
    return absl::InvalidArgumentError(
        "--method gptq needs --calibration FILE.. or --calibration self");
  }
  if (job.quantize.format == kFloatFormat) return absl::OkStatus();
  return ParseRounding(job).status();
}

absl::StatusOr<QuantizeOutcome> RunQuantizeJob(const QuantizeJob& job,
                                               const std::string& to,
                                               const DataProgress& progress) {
  POT_RETURN_IF_ERROR(CheckQuantizeJob(job));
  QuantizeOutcome outcome;
  if (job.quantize.format == kFloatFormat) {
    POT_RETURN_IF_ERROR(CopyFloatModel(job.from, to));
    return outcome;
  }
  POT_ASSIGN_OR_RETURN(QuantizeModelOptions options, ParseRounding(job));
  GptqModelResult calibrated;
  if (IsGptq(job)) {
    std::optional<TokenCorpus> read;
    if (job.calibration_text == nullptr) {
      POT_ASSIGN_OR_RETURN(
          read, ReadCalibrationText(job.from, job.calibration, job.threads));
    }
    POT_ASSIGN_OR_RETURN(
        calibrated,
        QuantizeByGptq(job.from,
                       read.has_value() ? *read : *job.calibration_text,
                       job.calibration, options, progress));
    options.quantizer = kGptq;
    options.matrices = &calibrated.matrices;
    options.floats = &calibrated.floats;
    outcome.largest_damping = calibrated.largest_damping;
  }
  ThreadPool pool(job.threads);
  bool cancelled = false;
  options.cancelled = [&cancelled] { return cancelled; };
  POT_ASSIGN_OR_RETURN(outcome.report,
                       QuantizeModel(job.from, to, options, &pool,
                                     [&](int64_t done, int64_t total) {
                                       cancelled = progress != nullptr &&
                                                   !progress(done, total);
                                     }));
  return outcome;
}

}  // namespace pot
