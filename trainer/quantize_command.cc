#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/base/thread_pool.h"
#include "engine/checkpoint/version_store.h"
#include "engine/gpt2/quantize_model.h"
#include "engine/loaded_model.h"
#include "trainer/calibrated_quantization.h"
#include "trainer/commands.h"
#include "trainer/progress_bar.h"
#include "trainer/quantize_flags.h"

namespace pot {
namespace {

constexpr char kGptq[] = "gptq";

struct Flags {
  QuantizeFlags quantize;
  CalibrationFlags calibration;
  std::string from;
  std::string out;
  int64_t version = 0;
  int threads = 0;
};

void PrintReport(const QuantizeModelReport& report) {
  const auto megabytes = [](int64_t bytes) {
    return static_cast<double>(bytes) / 1e6;
  };
  absl::PrintF(
      "parameters        %12d\n"
      "fp32              %12.3f MB\n"
      "codes             %12.3f MB\n"
      "scales            %12.3f MB\n"
      "biases, LayerNorm,\n"
      "positions         %12.3f MB\n"
      "total             %12.3f MB, %.2f %% less than fp32\n"
      "bits per quantized weight, scales included: %.3f\n",
      report.parameters, megabytes(report.float_bytes),
      megabytes(report.code_bytes), megabytes(report.scale_bytes),
      megabytes(report.other_bytes), megabytes(report.stored_bytes()),
      100.0 * (1.0 - static_cast<double>(report.stored_bytes()) /
                         static_cast<double>(report.float_bytes)),
      report.bits_per_weight);
}

absl::Status CheckCalibration(const Flags& flags, bool wanted) {
  if (wanted || flags.calibration.texts.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--calibration is for --method ", kGptq, ", not ",
                   Quote(flags.quantize.method)));
}

absl::Status Run(const Flags& flags) {
  POT_ASSIGN_OR_RETURN(const ModelPath out, ParseModelPath(flags.out));
  if (flags.version < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--version is at least 1, or 0 for the next, not ", flags.version));
  }

  std::optional<QuantizeModelOptions> options;
  const bool gptq =
      flags.quantize.method == kGptq && flags.quantize.format != kFloatFormat;
  POT_RETURN_IF_ERROR(CheckCalibration(flags, gptq));
  if (flags.quantize.format != kFloatFormat) {
    QuantizeFlags rounding = flags.quantize;
    // It rounds to nearest, as rtn does.
    if (gptq || rounding.method == "rtn") rounding.method = "nearest";
    POT_ASSIGN_OR_RETURN(options, ParseQuantizeFlags(rounding));
  }
  GptqModelResult calibrated;
  if (gptq) {
    POT_ASSIGN_OR_RETURN(
        calibrated,
        QuantizeByGptq(flags.from, flags.calibration, *options, flags.threads));
    options->quantizer = kGptq;
    options->matrices = &calibrated.matrices;
    options->floats = &calibrated.floats;
  }
  POT_ASSIGN_OR_RETURN(std::unique_ptr<VersionStore> store,
                       VersionStore::Open(out.root));
  POT_ASSIGN_OR_RETURN(StagedVersion staged, store->Stage(out.name));
  std::optional<QuantizeModelReport> report;
  if (options.has_value()) {
    ThreadPool pool(flags.threads);
    ProgressBar bar("quantizing");
    POT_ASSIGN_OR_RETURN(
        report, QuantizeModel(flags.from, staged.directory(), *options, &pool,
                              [&](int64_t done, int64_t total) {
                                bar.Update(done, total);
                              }));
  } else {
    POT_RETURN_IF_ERROR(CopyFloatModel(flags.from, staged.directory()));
  }
  POT_ASSIGN_OR_RETURN(
      const int64_t version,
      store->Commit(std::move(staged), flags.version, kEngineVersion));
  if (report.has_value()) PrintReport(*report);
  if (gptq && calibrated.largest_damping > flags.calibration.gptq.damping) {
    absl::FPrintF(stderr,
                  "pot-trainer: a Hessian needed a damping of %g instead of "
                  "%g\n",
                  calibrated.largest_damping, flags.calibration.gptq.damping);
  }
  absl::PrintF("wrote %s\n", store->VersionDirectory(out.name, version));
  return absl::OkStatus();
}

}  // namespace

void AddQuantizeCommand(CLI::App* app, absl::Status* result) {
  auto flags = std::make_shared<Flags>();
  flags->threads =
      std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  CLI::App* command = app->add_subcommand(
      "quantize",
      "Quantize a Hugging Face GPT-2 without training (PTQ) and publish it as "
      "a new version");
  command
      ->add_option("--from", flags->from,
                   "Hugging Face model directory: config.json, safetensors, "
                   "tokenizer")
      ->required();
  command
      ->add_option("--out", flags->out, "REPO/NAME: model repository and model")
      ->required();
  AddQuantizeFlags(command, &flags->quantize);
  command->get_option("--method")
      ->description(
          "nearest (or rtn): searched scale; paper: the papers' arithmetic; "
          "gptq: makes up for each rounding in the weights after it");
  AddCalibrationFlags(command, &flags->calibration);
  command
      ->add_option("--version", flags->version,
                   "Version number to publish; 0: the next free one")
      ->capture_default_str();
  command->add_option("--threads", flags->threads, "Threads")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  command->callback([flags, result] { *result = Run(*flags); });
}

}  // namespace pot
