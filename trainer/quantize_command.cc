#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/version_store.h"
#include "engine/loaded_model.h"
#include "trainer/commands.h"
#include "trainer/model_source.h"
#include "trainer/progress_bar.h"
#include "trainer/quantize_job.h"

namespace pot {
namespace {

struct Flags {
  QuantizeJob job;
  std::string out;
  int64_t version = 0;
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
      "outliers          %12.3f MB\n"
      "biases, LayerNorm,\n"
      "positions         %12.3f MB\n"
      "total             %12.3f MB, %.2f %% less than fp32\n"
      "bits per quantized weight, scales and outliers included: %.3f\n",
      report.parameters, megabytes(report.float_bytes),
      megabytes(report.code_bytes), megabytes(report.scale_bytes),
      megabytes(report.outlier_bytes), megabytes(report.other_bytes),
      megabytes(report.stored_bytes()),
      100.0 * (1.0 - static_cast<double>(report.stored_bytes()) /
                         static_cast<double>(report.float_bytes)),
      report.bits_per_weight);
}

absl::Status Run(const Flags& flags) {
  QuantizeJob job = flags.job;
  POT_ASSIGN_OR_RETURN(const ModelPath out, ParseModelPath(flags.out));
  if (flags.version < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--version is at least 1, or 0 for the next, not ", flags.version));
  }
  POT_RETURN_IF_ERROR(CheckQuantizeJob(job));
  POT_ASSIGN_OR_RETURN(job.from, ResolveModelSource(job.from));
  POT_ASSIGN_OR_RETURN(std::unique_ptr<VersionStore> store,
                       VersionStore::Open(out.root));
  POT_ASSIGN_OR_RETURN(StagedVersion staged, store->Stage(out.name));
  QuantizeOutcome outcome;
  {
    ProgressBar bar("quantizing");
    POT_ASSIGN_OR_RETURN(outcome,
                         RunQuantizeJob(job, staged.directory(),
                                        [&bar](int64_t done, int64_t total) {
                                          bar.Update(done, total);
                                          return true;
                                        }));
  }
  POT_ASSIGN_OR_RETURN(
      const int64_t version,
      store->Commit(std::move(staged), flags.version, kEngineVersion));
  if (outcome.report.has_value()) PrintReport(*outcome.report);
  for (const auto& [format, weights] : outcome.mixed) {
    absl::PrintF("%-16s  %12d weights\n", format, weights);
  }
  if (outcome.largest_damping > job.calibration.gptq.damping) {
    absl::FPrintF(stderr,
                  "pot-trainer: a Hessian needed a damping of %g instead of "
                  "%g\n",
                  outcome.largest_damping, job.calibration.gptq.damping);
  }
  for (const EqualizedProduct& product : outcome.equalized) {
    absl::PrintF(
        "%-22s  %5d channels equalized, error %5.1f %% of that before\n",
        product.name, product.channels, 100 * product.error_ratio);
  }
  for (size_t i = 0; i < outcome.error_ratios.size(); ++i) {
    absl::PrintF("layer %-3d  error of the output %5.1f %% of that before\n", i,
                 100 * outcome.error_ratios[i]);
  }
  absl::PrintF("wrote %s\n", store->VersionDirectory(out.name, version));
  return absl::OkStatus();
}

}  // namespace

void AddQuantizeCommand(const Command& app, absl::Status* result) {
  auto flags = std::make_shared<Flags>();
  flags->job.threads =
      std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const Command command = app.AddCommand(
      "quantize",
      "Quantize a Hugging Face GPT-2 without training (PTQ) and publish it as "
      "a new version");
  command
      .AddFlag("--from", &flags->job.from,
               "Hugging Face model: a directory with config.json, "
               "safetensors and tokenizer, or hf:OWNER/NAME[@REVISION]")
      .Required();
  command.AddFlag("--out", &flags->out, "REPO/NAME: model repository and model")
      .Required();
  AddQuantizeFlags(command, &flags->job.quantize);
  command.FindFlag("--method")
      .Description(
          "nearest (or rtn): searched scale; paper: the papers' arithmetic; "
          "gptq: makes up for each rounding in the weights after it; potptq: "
          "scales searched, then, with --calibration, trained; for the paper's "
          "ablation potptq-start (neither), potptq-step1, potptq-step2");
  AddOutliersFlag(command, &flags->job.quantize);
  AddMixedPrecisionFlags(command, &flags->job.quantize);
  AddCalibrationFlags(command, &flags->job.calibration);
  command
      .AddFlag("--version", &flags->version,
               "Version number to publish; 0: the next free one")
      .ShowDefault();
  command.AddFlag("--threads", &flags->job.threads, "Threads")
      .InRange(1, 256)
      .ShowDefault();
  command.OnSelected([flags, result] { *result = Run(*flags); });
}

}  // namespace pot
