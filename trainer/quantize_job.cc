#include "trainer/quantize_job.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/base/thread_pool.h"

namespace pot {
namespace {

// What is done besides rounding each weight for itself.
enum class Calibrated { kNo, kGptq, kScales, kScalesIfThereIsText };

struct Method {
  absl::string_view name;
  absl::string_view rounding;  // a QuantizeMode
  Calibrated calibrated = Calibrated::kNo;
};

constexpr Method kMethods[] = {
    {"rtn", "nearest"},
    {"paper", "paper"},
    {"potptq-start", "potptq-start"},
    {"potptq-step1", "potptq"},
    {"potptq-step2", "potptq-start", Calibrated::kScales},
    {"potptq", "potptq", Calibrated::kScalesIfThereIsText},
    {"gptq", "nearest", Calibrated::kGptq},
};

// Names of modes are methods, too.
Method FindMethod(const std::string& name) {
  for (const Method& method : kMethods) {
    if (name == method.name) return method;
  }
  return {name, name};
}

bool HasText(const QuantizeJob& job) {
  return !job.calibration.texts.empty() || job.calibration_text != nullptr;
}

Calibrated CalibratedBy(const QuantizeJob& job) {
  if (job.quantize.format == kFloatFormat) return Calibrated::kNo;
  const Calibrated calibrated = FindMethod(job.quantize.method).calibrated;
  if (calibrated != Calibrated::kScalesIfThereIsText) return calibrated;
  return HasText(job) ? Calibrated::kScales : Calibrated::kNo;
}

bool IsMixed(const QuantizeJob& job) { return job.quantize.bits_budget > 0; }

// How what the method leaves alone is rounded. With a budget of bits all its
// formats must go with the method; the first one stands for them.
absl::StatusOr<QuantizeModelOptions> ParseRounding(const QuantizeJob& job) {
  QuantizeFlags rounding = job.quantize;
  rounding.method = std::string(FindMethod(rounding.method).rounding);
  if (IsMixed(job)) {
    POT_RETURN_IF_ERROR(ParseMixedFormats(rounding).status());
    for (const std::string& format : rounding.mixed_formats) {
      rounding.format = format;
      POT_RETURN_IF_ERROR(ParseQuantizeFlags(rounding).status());
    }
    rounding.format = rounding.mixed_formats.front();
  }
  return ParseQuantizeFlags(rounding);
}

// The formats of options->formats, within the budget.
absl::Status ChooseFormats(const QuantizeJob& job, const TokenCorpus& text,
                           const DataProgress& progress,
                           QuantizeModelOptions* options,
                           QuantizeOutcome* outcome) {
  POT_ASSIGN_OR_RETURN(const std::vector<const PotFormat*> formats,
                       ParseMixedFormats(job.quantize));
  POT_ASSIGN_OR_RETURN(
      const std::vector<TensorSensitivity> tensors,
      MeasureModelSensitivity(job.from, text, *options, formats, progress));
  std::vector<std::vector<FormatCost>> costs;
  int64_t weights = 0;
  for (const TensorSensitivity& tensor : tensors) {
    costs.push_back(tensor.formats);
    weights += tensor.weights;
  }
  const absl::StatusOr<std::vector<size_t>> chosen = AllocateBits(
      costs, job.quantize.bits_budget * static_cast<double>(weights));
  if (!chosen.ok()) {
    double least = 0;
    for (const std::vector<FormatCost>& cost : costs) {
      least += std::min_element(cost.begin(), cost.end(),
                                [](const FormatCost& a, const FormatCost& b) {
                                  return a.bits < b.bits;
                                })
                   ->bits;
    }
    return absl::InvalidArgumentError(absl::StrFormat(
        "--bits-budget must be at least %.3f with these --mixed-formats and "
        "this granularity, not %g",
        least / static_cast<double>(weights), job.quantize.bits_budget));
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    const PotFormat* const format = formats[(*chosen)[i]];
    options->formats[tensors[i].name] = format;
    outcome->mixed[std::string(format->name)] += tensors[i].weights;
  }
  return absl::OkStatus();
}

// Tensors that are not left to QuantizeModel.
struct QuantizedTensors {
  std::map<std::string, PotMatrix> matrices;
  std::map<std::string, std::vector<float>> floats;
};

// What the job does to the whole model in memory, before it is written. `text`
// may be null where the job needs none.
absl::Status QuantizeWholeModel(const QuantizeJob& job, const TokenCorpus* text,
                                ThreadPool* pool, const DataProgress& progress,
                                QuantizeModelOptions* options,
                                QuantizedTensors* tensors,
                                QuantizeOutcome* outcome) {
  POT_ASSIGN_OR_RETURN(
      const std::unique_ptr<FloatParameters> parameters,
      FloatParameters::Read(job.from, job.calibration.spill_directory));
  if (job.calibration.equalize) {
    POT_ASSIGN_OR_RETURN(
        EqualizationResult equalized,
        EqualizeParameters(text, *options, progress, parameters.get()));
    tensors->floats = std::move(equalized.floats);
    outcome->equalized = std::move(equalized.products);
  }
  switch (CalibratedBy(job)) {
    case Calibrated::kGptq: {
      POT_ASSIGN_OR_RETURN(GptqModelResult gptq,
                           QuantizeByGptq(*text, job.calibration, *options,
                                          progress, parameters.get()));
      tensors->matrices = std::move(gptq.matrices);
      // Biases of equalized products, which GPTQ has gone on from.
      gptq.floats.merge(tensors->floats);
      tensors->floats = std::move(gptq.floats);
      outcome->largest_damping = gptq.largest_damping;
      options->quantizer = "gptq";
      break;
    }
    case Calibrated::kScales: {
      POT_ASSIGN_OR_RETURN(PotPtqModelResult potptq,
                           QuantizeByPotPtq(*text, job.calibration, *options,
                                            progress, parameters.get()));
      tensors->matrices = std::move(potptq.matrices);
      outcome->error_ratios = std::move(potptq.error_ratios);
      options->quantizer = absl::StrCat(QuantizeModeName(options->layers.mode),
                                        ", trained scales");
      break;
    }
    default: {
      POT_ASSIGN_OR_RETURN(tensors->matrices,
                           QuantizeLayers(*options, pool, *parameters));
      options->quantizer = std::string(QuantizeModeName(options->layers.mode));
    }
  }
  if (job.calibration.equalize) {
    absl::StrAppend(&options->quantizer, ", equalized");
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<std::string> QuantizeMethods() {
  std::vector<std::string> names;
  for (const Method& method : kMethods) names.emplace_back(method.name);
  return names;
}

bool NeedsCalibration(const std::string& method) {
  return FindMethod(method).calibrated != Calibrated::kNo;
}

absl::Status CheckQuantizeJob(const QuantizeJob& job) {
  const bool named = !job.calibration.texts.empty();
  const bool calibrated = CalibratedBy(job) != Calibrated::kNo;
  if (named && !calibrated && !IsMixed(job) && !job.calibration.equalize) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--calibration is for --method gptq, potptq and potptq-step2, for "
        "--equalize and --bits-budget, not --method ",
        Quote(job.quantize.method)));
  }
  if (!HasText(job) && (calibrated || IsMixed(job))) {
    return absl::InvalidArgumentError(
        absl::StrCat(calibrated ? absl::StrCat("--method ", job.quantize.method)
                                : "--bits-budget",
                     " needs --calibration FILE.. or --calibration self"));
  }
  if (job.quantize.format == kFloatFormat) return absl::OkStatus();
  if (CalibratedBy(job) == Calibrated::kScales) {
    POT_RETURN_IF_ERROR(CheckPotPtqOptions(job.calibration.potptq));
  }
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
  const TokenCorpus* text = job.calibration_text;
  std::optional<TokenCorpus> read;
  if (text == nullptr && !job.calibration.texts.empty()) {
    POT_ASSIGN_OR_RETURN(
        read, ReadCalibrationText(job.from, job.calibration, job.threads));
    text = &*read;
  }
  if (IsMixed(job)) {
    POT_RETURN_IF_ERROR(
        ChooseFormats(job, *text, progress, &options, &outcome));
  }
  ThreadPool pool(job.threads);
  QuantizedTensors tensors;
  if (CalibratedBy(job) != Calibrated::kNo || job.calibration.equalize) {
    POT_RETURN_IF_ERROR(QuantizeWholeModel(job, text, &pool, progress, &options,
                                           &tensors, &outcome));
    options.matrices = &tensors.matrices;
    options.floats = &tensors.floats;
  }
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
