#include "trainer/calibrated_quantization.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/base/thread_pool.h"
#include "engine/gpt2/float_model.h"
#include "engine/gpt2/model_files.h"
#include "trainer/gpt2/parameter_layout.h"
#include "trainer/progress_bar.h"
#include "trainer/training/sample_training_text.h"

namespace pot {
namespace {

constexpr char kSelf[] = "self";
// Of the calibration sequences; the models' own contexts may be longer.
constexpr int64_t kMaxContext = 1024;
// On which a format of a matrix is judged.
constexpr int64_t kSensitivityTokens = 4096;

// At most `count` sequences of `context` tokens from all over `text`.
absl::StatusOr<TokenCorpus> PickSequences(const TokenCorpus& text,
                                          int64_t context, int64_t count) {
  const int64_t sequences =
      std::min(std::max<int64_t>(1, count), text.size() / context);
  if (sequences == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--calibration has ", text.size(),
                     " tokens; one sequence of ", context, " is the least"));
  }
  TokenCorpus picked(text.vocab_size());
  std::vector<int32_t> tokens(context);
  for (int64_t i = 0; i < sequences; ++i) {
    text.Copy((text.size() - context) * i / std::max<int64_t>(1, sequences - 1),
              absl::MakeSpan(tokens));
    POT_RETURN_IF_ERROR(picked.Append(tokens));
  }
  return picked;
}

int64_t CalibrationContext(const Gpt2Config& config) {
  return std::min(kMaxContext, config.n_positions);
}

}  // namespace

void AddCalibrationFlags(const Command& command, CalibrationFlags* flags) {
  command.AddFlag(
      "--calibration", &flags->texts,
      "For --method gptq, potptq and potptq-step2, for "
      "--equalize and --bits-budget: texts, UTF-8, or self for text that the "
      "model writes");
  command.AddFlag("--calibration-tokens", &flags->tokens, "How much of it")
      .InRange(int64_t{1}, int64_t{1} << 32)
      .ShowDefault();
  command.AddFlag("--seed", &flags->seed, "Of --calibration self")
      .ShowDefault();
  command.AddSwitch("--equalize", &flags->equalize,
                    "First move powers of two from the inputs of products to "
                    "their weights, by --calibration or by LayerNorms alone");
  command.AddFlag("--spill", &flags->spill_directory,
                  "Directory for a file of the float weights, 4 bytes each, "
                  "of which a layer at a time is in memory: for models "
                  "larger than that");
  command
      .AddFlag("--damping", &flags->gptq.damping,
               "Added to the Hessian's diagonal, over its mean; up to 1")
      .ShowDefault();
  command.AddSwitch("--act-order", &flags->gptq.activation_order,
                    "Round columns in the order of falling Hessian diagonal");
  command.AddSwitch("--keep-biases", &flags->keep_biases,
                    "Correct no biases for the mean error of their product");
  command
      .AddFlag("--refinements", &flags->gptq.refinement_passes,
               "Passes over scales and codes after GPTQ's own")
      .InRange(0, 100)
      .ShowDefault();
  command
      .AddFlag("--epochs", &flags->potptq.epochs,
               "Over the calibration text, with --method potptq; 0: 10, or "
               "40 for 2 bits")
      .ShowDefault();
  command
      .AddFlag("--lr", &flags->potptq.learning_rate,
               "Learning rate of its scales")
      .ShowDefault();
  command
      .AddFlag("--lambda", &flags->potptq.lambda,
               "Weight decay of what its scales are changed by")
      .ShowDefault();
}

absl::StatusOr<TokenCorpus> ReadCalibrationText(const std::string& from,
                                                const CalibrationFlags& flags,
                                                int threads) {
  POT_ASSIGN_OR_RETURN(const FloatModel model, FloatModel::Open(from));
  const Gpt2Config& config = model.config();
  const int64_t context = CalibrationContext(config);
  if (flags.tokens < context) {
    return absl::InvalidArgumentError(
        absl::StrCat("--calibration-tokens must be at least a sequence of ",
                     context, ", not ", flags.tokens));
  }
  if (flags.texts == std::vector<std::string>{kSelf}) {
    SelfTextOptions options;
    options.tokens = flags.tokens;
    options.sequence_tokens = context;
    options.seed = flags.seed;
    ProgressBar bar("sampling");
    return SampleTrainingText(from, options, threads, "", "",
                              [&bar](int64_t done, int64_t total) {
                                bar.Update(done, total);
                                return true;
                              });
  }
  POT_ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizer(from, config));
  ThreadPool pool(threads);
  CorpusOptions options;
  options.pool = &pool;
  POT_ASSIGN_OR_RETURN(const TokenCorpus all,
                       TokenizeFiles(flags.texts, *tokenizer, options));
  return PickSequences(all, context, flags.tokens / context);
}

std::string DescribeCalibration(const CalibrationFlags& flags) {
  return absl::StrCat("damping ", flags.gptq.damping,
                      flags.gptq.activation_order ? ", act-order" : "",
                      flags.keep_biases ? ", biases kept" : "",
                      ", refinements ", flags.gptq.refinement_passes,
                      "; potptq: epochs ", flags.potptq.epochs, ", lr ",
                      flags.potptq.learning_rate, ", lambda ",
                      flags.potptq.lambda, flags.equalize ? "; equalized" : "");
}

absl::StatusOr<std::vector<TensorSensitivity>> MeasureModelSensitivity(
    const std::string& from, const TokenCorpus& text,
    const QuantizeModelOptions& options,
    const std::vector<const PotFormat*>& formats,
    const DataProgress& progress) {
  POT_ASSIGN_OR_RETURN(const Gpt2Config config, ReadGpt2Config(from));
  const ParameterLayout layout(config);
  std::vector<float> parameters(layout.size());
  POT_RETURN_IF_ERROR(layout.Read(from, absl::MakeSpan(parameters)));
  // KL is a steady measure: part of the text, from all over it, says enough.
  const int64_t context = CalibrationContext(config);
  POT_ASSIGN_OR_RETURN(
      const TokenCorpus part,
      PickSequences(text, context, kSensitivityTokens / context));
  return MeasureSensitivity(layout, part, context, options, formats,
                            &parameters, progress);
}

absl::StatusOr<EqualizationResult> EqualizeParameters(
    const TokenCorpus* text, const QuantizeModelOptions& options,
    const DataProgress& progress, FloatParameters* parameters) {
  return EqualizeModel(parameters->layout(), options, text,
                       CalibrationContext(parameters->layout().config()),
                       parameters->values(), progress);
}

absl::StatusOr<GptqModelResult> QuantizeByGptq(
    const TokenCorpus& calibration, const CalibrationFlags& flags,
    const QuantizeModelOptions& options, const DataProgress& progress,
    FloatParameters* parameters) {
  GptqModelOptions gptq;
  gptq.model = options;
  gptq.gptq = flags.gptq;
  gptq.correct_biases = !flags.keep_biases;
  gptq.context = CalibrationContext(parameters->layout().config());
  gptq.release_layer = [parameters](int64_t layer) {
    parameters->ReleaseLayer(layer);
  };
  return QuantizeModelGptq(parameters->layout(), calibration, gptq,
                           parameters->values(), progress);
}

absl::StatusOr<PotPtqModelResult> QuantizeByPotPtq(
    const TokenCorpus& calibration, const CalibrationFlags& flags,
    const QuantizeModelOptions& options, const DataProgress& progress,
    FloatParameters* parameters) {
  PotPtqModelOptions potptq;
  potptq.model = options;
  potptq.potptq = flags.potptq;
  potptq.context = CalibrationContext(parameters->layout().config());
  potptq.release_layer = [parameters](int64_t layer) {
    parameters->ReleaseLayer(layer);
  };
  return QuantizeModelPotPtq(parameters->layout(), calibration, potptq,
                             parameters->values(), progress);
}

absl::StatusOr<std::map<std::string, PotMatrix>> QuantizeLayers(
    const QuantizeModelOptions& options, ThreadPool* pool,
    const FloatParameters& parameters) {
  std::map<std::string, PotMatrix> matrices;
  const ParameterLayout& layout = parameters.layout();
  for (size_t i = 0; i < layout.tensors().size(); ++i) {
    const TensorSpec& tensor = layout.tensors()[i];
    if (tensor.kind != TensorKind::kConv1d) continue;
    POT_ASSIGN_OR_RETURN(
        PotMatrix matrix,
        QuantizePot(
            parameters.values().subspan(layout.offset(static_cast<int>(i)),
                                        tensor.num_elements()),
            tensor.rows(), tensor.cols(), options.For(tensor), pool));
    matrices.emplace(tensor.name, std::move(matrix));
  }
  return matrices;
}

}  // namespace pot
