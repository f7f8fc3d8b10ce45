#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/file.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/base/thread_pool.h"
#include "engine/checkpoint/version_store.h"
#include "engine/gpt2/float_model.h"
#include "engine/gpt2/model_files.h"
#include "engine/loaded_model.h"
#include "trainer/commands.h"
#include "trainer/model_source.h"
#include "trainer/quantize_flags.h"
#include "trainer/replace_directory.h"
#include "trainer/training/evaluate_text.h"
#include "trainer/training/sample_training_text.h"
#include "trainer/training/training_loop.h"
#include "trainer/training_console.h"
#include "trainer/training_flags.h"

namespace pot {
namespace {

constexpr char kSelf[] = "self";

struct Flags {
  TrainingFlags training;
  QuantizeFlags quantize;
  std::string from;
  std::string out;
  std::string activations = "affine";
  std::string straight_through = "clipped";
  bool learned_scales = false;
  double scale_rate_ratio = 10;
  double freeze_ratio = 0;
  double cross_entropy_weight = 1;
  double distillation_weight = 1;
  double temperature = 1;
  int64_t self_tokens = int64_t{1} << 20;
  double self_temperature = 1;
};

absl::StatusOr<FakeQuantizeOptions> FakeQuantizeOf(
    const QuantizeOptions& quantize, const Flags& flags) {
  FakeQuantizeOptions options;
  options.quantize = quantize;
  options.learned_scales = flags.learned_scales;
  if (flags.straight_through == "identity") {
    options.straight_through = StraightThrough::kIdentity;
  } else if (flags.straight_through != "clipped") {
    return absl::InvalidArgumentError(
        absl::StrCat("--ste must be clipped or identity, not ",
                     Quote(flags.straight_through)));
  }
  return options;
}

absl::StatusOr<ActivationFakeQuantization> ParseActivations(
    const std::string& text) {
  if (text == "affine") return ActivationFakeQuantization::kAffine;
  if (text == "symmetric") return ActivationFakeQuantization::kSymmetric;
  if (text == "observed") return ActivationFakeQuantization::kObserved;
  if (text == "float") return ActivationFakeQuantization::kFloat;
  return absl::InvalidArgumentError(
      absl::StrCat("--activations must be affine, symmetric, observed or "
                   "float, not ",
                   Quote(text)));
}

absl::StatusOr<QatOptions> QatOptionsOf(const Flags& flags) {
  POT_ASSIGN_OR_RETURN(const QuantizeModelOptions model,
                       ParseQuantizeFlags(flags.quantize));
  QatOptions options;
  POT_ASSIGN_OR_RETURN(options.weights.layers,
                       FakeQuantizeOf(model.layers, flags));
  POT_ASSIGN_OR_RETURN(options.weights.embedding,
                       FakeQuantizeOf(model.embedding, flags));
  options.weights.half_positions = model.half_positions;
  POT_ASSIGN_OR_RETURN(options.activations.mode,
                       ParseActivations(flags.activations));
  if (!(flags.freeze_ratio >= 0 && flags.freeze_ratio <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--freeze must be in [0, 1], not ", flags.freeze_ratio));
  }
  if (!(flags.scale_rate_ratio > 0 && flags.scale_rate_ratio <= 1000)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--scale-lr-ratio must be in (0, 1000], not ", flags.scale_rate_ratio));
  }
  options.freeze_ratio = flags.freeze_ratio;
  options.scale_rate_ratio = flags.scale_rate_ratio;
  return options;
}

absl::StatusOr<LossOptions> LossOf(const Flags& flags, LossOptions loss) {
  if (!(flags.cross_entropy_weight >= 0) || !(flags.distillation_weight >= 0) ||
      flags.cross_entropy_weight + flags.distillation_weight == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--ce and --distill must be at least 0 and not both 0, not ",
        flags.cross_entropy_weight, " and ", flags.distillation_weight));
  }
  if (!(flags.temperature > 0 && flags.temperature <= 100)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--temperature must be in (0, 100], not ", flags.temperature));
  }
  loss.cross_entropy_weight = flags.cross_entropy_weight;
  loss.distillation_weight = flags.distillation_weight;
  loss.temperature = flags.temperature;
  return loss;
}

// Data-free training text, from the base itself.
absl::StatusOr<TokenCorpus> SelfText(const Flags& flags, int64_t context) {
  SelfTextOptions options;
  options.tokens = flags.self_tokens;
  options.sequence_tokens = context + 1;
  options.temperature = static_cast<float>(flags.self_temperature);
  options.seed = flags.training.seed;
  ProgressBar bar("sampling");
  return SampleTrainingText(
      flags.from, options,
      std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, 256),
      "", "", [&bar](int64_t done, int64_t total) {
        bar.Update(done, total);
        return true;
      });
}

absl::Status CopyFiles(const std::string& from, const std::string& to) {
  std::error_code error;
  std::filesystem::copy(from, to, std::filesystem::copy_options::recursive,
                        error);
  if (!error) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("cannot copy ", from, " to ", to, ": ", error.message()));
}

absl::Status Run(Flags flags) {
  POT_ASSIGN_OR_RETURN(const ModelPath out, ParseModelPath(flags.out));
  POT_ASSIGN_OR_RETURN(flags.from, ResolveModelSource(flags.from));
  POT_ASSIGN_OR_RETURN(const FloatModel base, FloatModel::Open(flags.from));
  POT_ASSIGN_OR_RETURN(const auto tokenizer,
                       LoadTokenizer(flags.from, base.config()));
  POT_ASSIGN_OR_RETURN(const auto files, ReadModelFiles(flags.from));
  POT_ASSIGN_OR_RETURN(
      TrainingOptions options,
      TrainingOptionsOf(flags.training, base.config().n_positions));
  POT_ASSIGN_OR_RETURN(options.qat, QatOptionsOf(flags));
  POT_ASSIGN_OR_RETURN(options.loss, LossOf(flags, options.loss));
  POT_ASSIGN_OR_RETURN(
      LoopOptions loop,
      LoopOptionsOf(flags.training, base.config().n_positions));
  loop.evaluate_start = true;
  CheckpointProvenance provenance;
  POT_ASSIGN_OR_RETURN(provenance.base_sha256, base.source().Digest());
  provenance.quantizer = "qat";
  provenance.tool_version = kEngineVersion;

  const ParameterLayout layout(base.config());
  std::vector<float> parameters(layout.size());
  POT_RETURN_IF_ERROR(layout.Read(flags.from, absl::MakeSpan(parameters)));

  const bool self = flags.training.train == std::vector<std::string>{kSelf};
  if (self && flags.training.validation.empty()) {
    return absl::InvalidArgumentError(
        "--train self needs a --val text to measure on");
  }
  POT_ASSIGN_OR_RETURN(
      TrainingTexts texts,
      ReadTrainingTexts(flags.training, *tokenizer, flags.from, self));
  if (self) {
    POT_ASSIGN_OR_RETURN(texts.train, SelfText(flags, options.batch.context));
    options.batch.stride = options.batch.context + 1;
  }

  POT_ASSIGN_OR_RETURN(std::unique_ptr<VersionStore> store,
                       VersionStore::Open(out.root));
  POT_ASSIGN_OR_RETURN(StagedVersion staged, store->Stage(out.name));
  const bool distilled = flags.distillation_weight > 0;
  POT_ASSIGN_OR_RETURN(
      const std::unique_ptr<TrainingRun> run,
      TrainingRun::Create(&layout, options, &texts.train, parameters,
                          distilled ? &layout : nullptr, parameters));
  const std::string& state = flags.training.state;
  const std::string best_model =
      (state.empty() ? staged.directory() : state) + "/best";
  POT_ASSIGN_OR_RETURN(
      const auto console,
      TrainingConsole::Create(options, state, [&](const EvaluationReport&) {
        return ReplaceDirectory(best_model, [&](const std::string& to) {
          return run->ExportQuantized(files, provenance, to);
        });
      }));
  console->Print(absl::StrFormat(
      "%d parameters, %d training tokens, %d for validation, %s",
      base.config().num_parameters(), texts.train.size(),
      texts.validation.size(),
      options.precision == Precision::kBf16 ? "bf16" : "f32"));

  POT_ASSIGN_OR_RETURN(
      const auto base_objective,
      Objective<float>::Create(&layout, TrunkOptions{}, Precision::kF32,
                               nullptr, nullptr, {}));
  base_objective->SetParameters(parameters);
  POT_ASSIGN_OR_RETURN(
      const LossSums base_sums,
      EvaluateText(texts.validation, loop.protocol, loop.evaluation_tokens,
                   nullptr, base_objective.get()));
  console->Print(absl::StrFormat("base: %.4f nats", base_sums.mean_nats()));
  POT_ASSIGN_OR_RETURN(
      const LoopResult result,
      TrainFromState(loop, texts.validation, state, run.get(), console.get()));
  POT_RETURN_IF_ERROR(CopyFiles(best_model, staged.directory()));
  if (state.empty()) {
    std::error_code error;
    std::filesystem::remove_all(best_model, error);
  }
  POT_ASSIGN_OR_RETURN(const int64_t version,
                       store->Commit(std::move(staged), 0, kEngineVersion));
  absl::PrintF("base %.4f nats, quantized and trained %.4f nats\nwrote %s\n",
               base_sums.mean_nats(), result.best.nats,
               store->VersionDirectory(out.name, version));
  return absl::OkStatus();
}

}  // namespace

void AddQatCommand(const Command& app, absl::Status* result) {
  auto flags = std::make_shared<Flags>();
  flags->training.rate = 2e-4;
  const Command command = app.AddCommand(
      "qat",
      "Quantization-aware training of a Hugging Face GPT-2; publishes the best "
      "checkpoint as a new version");
  command
      .AddFlag("--from", &flags->from,
               "Hugging Face model: a directory with config.json, "
               "safetensors and tokenizer, or hf:OWNER/NAME[@REVISION]")
      .Required();
  command.AddFlag("--out", &flags->out, "REPO/NAME: model repository and model")
      .Required();
  AddQuantizeFlags(command, &flags->quantize);
  command
      .AddFlag("--activations", &flags->activations,
               "8 bits: affine, symmetric or observed; or float")
      .ShowDefault();
  command
      .AddFlag("--ste", &flags->straight_through,
               "Gradient of rounding: clipped, or identity as in the papers")
      .ShowDefault();
  command.AddSwitch("--learned-scales", &flags->learned_scales,
                    "Train the scales, too (LSQ)");
  command
      .AddFlag("--scale-lr-ratio", &flags->scale_rate_ratio,
               "Learning rate of the scales over --lr")
      .ShowDefault();
  command
      .AddFlag("--freeze", &flags->freeze_ratio,
               "Hold the codes for this share of the steps, the last ones")
      .ShowDefault();
  command
      .AddFlag("--ce", &flags->cross_entropy_weight,
               "Weight of the cross-entropy with the text")
      .ShowDefault();
  command
      .AddFlag("--distill", &flags->distillation_weight,
               "Weight of KL(base || quantized)")
      .ShowDefault();
  command.AddFlag("--temperature", &flags->temperature, "Of the distillation")
      .ShowDefault();
  command
      .AddFlag("--self-tokens", &flags->self_tokens,
               "With --train self: tokens to sample from the base")
      .ShowDefault();
  command
      .AddFlag("--self-temperature", &flags->self_temperature,
               "Temperature of that sampling")
      .ShowDefault();
  AddTrainingFlags(command, &flags->training);
  command.OnSelected([flags, result] { *result = Run(*flags); });
}

}  // namespace pot
