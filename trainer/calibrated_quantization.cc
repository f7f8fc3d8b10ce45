#include "trainer/calibrated_quantization.h"

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

int64_t CalibrationContext(const Gpt2Config& config) {
  return std::min(kMaxContext, config.n_positions);
}

}  // namespace

void AddCalibrationFlags(CLI::App* command, CalibrationFlags* flags) {
  command->add_option("--calibration", flags->texts,
                      "With --method gptq: texts, UTF-8, or self for text that "
                      "the model writes");
  command->add_option("--calibration-tokens", flags->tokens, "How much of it")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 32))
      ->capture_default_str();
  command->add_option("--seed", flags->seed, "Of --calibration self")
      ->capture_default_str();
  command
      ->add_option("--damping", flags->gptq.damping,
                   "Added to the Hessian's diagonal, over its mean; up to 1")
      ->capture_default_str();
  command->add_flag("--act-order", flags->gptq.activation_order,
                    "Round columns in the order of falling Hessian diagonal");
  command->add_flag("--keep-biases", flags->keep_biases,
                    "Correct no biases for the mean error of their product");
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
  // Sequences from all over the text.
  const int64_t sequences =
      std::min(flags.tokens / context, all.size() / context);
  if (sequences == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--calibration has ", all.size(),
                     " tokens; one sequence of ", context, " is the least"));
  }
  TokenCorpus calibration(config.vocab_size);
  std::vector<int32_t> tokens(context);
  for (int64_t i = 0; i < sequences; ++i) {
    all.Copy((all.size() - context) * i / std::max<int64_t>(1, sequences - 1),
             absl::MakeSpan(tokens));
    POT_RETURN_IF_ERROR(calibration.Append(tokens));
  }
  return calibration;
}

absl::StatusOr<GptqModelResult> QuantizeByGptq(
    const std::string& from, const TokenCorpus& calibration,
    const CalibrationFlags& flags, const QuantizeModelOptions& options,
    const DataProgress& progress) {
  POT_ASSIGN_OR_RETURN(const FloatModel model, FloatModel::Open(from));
  GptqModelOptions gptq;
  gptq.model = options;
  gptq.gptq = flags.gptq;
  gptq.correct_biases = !flags.keep_biases;
  gptq.context = CalibrationContext(model.config());
  const ParameterLayout layout(model.config());
  std::vector<float> parameters(layout.size());
  POT_RETURN_IF_ERROR(layout.Read(from, absl::MakeSpan(parameters)));
  return QuantizeModelGptq(layout, calibration, gptq, &parameters, progress);
}

}  // namespace pot
