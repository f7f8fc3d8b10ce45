#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "engine/gpt2/float_model.h"
#include "engine/text/tokenizer.h"
#include "trainer/commands.h"
#include "trainer/gpt2/parameter_layout.h"
#include "trainer/random_model.h"
#include "trainer/replace_directory.h"
#include "trainer/training/training_loop.h"
#include "trainer/training_console.h"
#include "trainer/training_flags.h"

namespace pot {
namespace {

struct Flags {
  TrainingFlags training;
  std::string tokenizer;
  std::string from;
  std::string out;
  int64_t layers = 4, heads = 4, width = 128, positions = 64, inner = 0;
};

// The tokenizer's files, which the model takes along.
absl::StatusOr<std::map<std::string, std::string>> ReadTokenizerFiles(
    const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const char* name : {"vocab.json", "merges.txt", "tokenizer.json"}) {
    absl::StatusOr<std::string> content =
        ReadFile(absl::StrCat(directory, "/", name), kMaxTokenizerFileBytes);
    if (absl::IsNotFound(content.status())) continue;
    POT_RETURN_IF_ERROR(content.status());
    files.emplace(name, *std::move(content));
  }
  return files;
}

absl::StatusOr<Gpt2Config> ConfigOf(const Flags& flags, int vocab_size) {
  if (!flags.from.empty()) return ReadGpt2Config(flags.from);
  Gpt2Config config;
  config.n_layer = flags.layers;
  config.n_head = flags.heads;
  config.n_embd = flags.width;
  config.n_inner = flags.inner != 0 ? flags.inner : 4 * flags.width;
  config.n_positions = flags.positions;
  config.vocab_size = vocab_size;
  // The limits are the parser's.
  return Gpt2Config::Parse(config.ToJson(), "the model's shape");
}

absl::StatusOr<std::vector<float>> InitialParameters(
    const Flags& flags, const ParameterLayout& layout) {
  if (flags.from.empty()) {
    return RandomParameters(layout, flags.training.seed);
  }
  std::vector<float> parameters(layout.size());
  POT_RETURN_IF_ERROR(layout.Read(flags.from, absl::MakeSpan(parameters)));
  return parameters;
}

absl::Status WriteModel(const ParameterLayout& layout, const TrainingRun& run,
                        const std::map<std::string, std::string>& files,
                        const std::string& directory) {
  POT_RETURN_IF_ERROR(layout.Write(directory, run.parameters()));
  for (const auto& [name, content] : files) {
    POT_RETURN_IF_ERROR(WriteFile(absl::StrCat(directory, "/", name), content));
  }
  return absl::OkStatus();
}

absl::Status Run(const Flags& flags) {
  std::error_code error;
  if (std::filesystem::exists(flags.out, error)) {
    return absl::AlreadyExistsError(
        absl::StrCat("--out: '", flags.out, "' is there already"));
  }
  const std::string& vocabulary =
      flags.from.empty() ? flags.tokenizer : flags.from;
  if (vocabulary.empty()) {
    return absl::InvalidArgumentError(
        "pretrain needs --tokenizer DIR, or --from DIR to go on with a model");
  }
  POT_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(vocabulary));
  POT_ASSIGN_OR_RETURN(const auto files, ReadTokenizerFiles(vocabulary));
  POT_ASSIGN_OR_RETURN(const Gpt2Config config,
                       ConfigOf(flags, tokenizer->vocab_size()));
  POT_ASSIGN_OR_RETURN(const TrainingOptions options,
                       TrainingOptionsOf(flags.training, config.n_positions));
  POT_ASSIGN_OR_RETURN(const LoopOptions loop,
                       LoopOptionsOf(flags.training, config.n_positions));
  POT_ASSIGN_OR_RETURN(
      const TrainingTexts texts,
      ReadTrainingTexts(flags.training, *tokenizer, vocabulary, false));

  const ParameterLayout layout(config);
  POT_ASSIGN_OR_RETURN(std::vector<float> initial,
                       InitialParameters(flags, layout));
  POT_ASSIGN_OR_RETURN(const std::unique_ptr<TrainingRun> run,
                       TrainingRun::Create(&layout, options, &texts.train,
                                           std::move(initial), nullptr, {}));
  const std::string& state = flags.training.state;
  const std::string best_model =
      state.empty() ? flags.out + ".best" : state + "/best";
  POT_ASSIGN_OR_RETURN(
      const auto console,
      TrainingConsole::Create(options, state, [&](const EvaluationReport&) {
        return ReplaceDirectory(best_model, [&](const std::string& to) {
          return WriteModel(layout, *run, files, to);
        });
      }));
  console->Print(absl::StrFormat(
      "%d parameters, %d training tokens, %d for validation, %s",
      config.num_parameters(), texts.train.size(), texts.validation.size(),
      options.precision == Precision::kBf16 ? "bf16" : "f32"));
  POT_ASSIGN_OR_RETURN(
      const LoopResult result,
      TrainFromState(loop, texts.validation, state, run.get(), console.get()));
  POT_RETURN_IF_ERROR(RenameDirectory(best_model, flags.out));
  absl::PrintF("%s: %d parameters, %.4f nats per token\n", flags.out,
               config.num_parameters(), result.best.nats);
  return absl::OkStatus();
}

}  // namespace

void AddPretrainCommand(const Command& app, absl::Status* result) {
  auto flags = std::make_shared<Flags>();
  const Command command = app.AddCommand(
      "pretrain",
      "Train a GPT-2 from scratch, or go on training one, in floats; writes a "
      "Hugging Face directory");
  const Flag tokenizer = command.AddFlag(
      "--tokenizer", &flags->tokenizer,
      "Directory with vocab.json and merges.txt; see `tokenizer`");
  const Flag from =
      command
          .AddFlag("--from", &flags->from,
                   "Go on with the weights, shape and tokenizer of this "
                   "Hugging Face directory")
          .Excludes(tokenizer);
  command.AddFlag("--out", &flags->out, "Directory to create").Required();
  from.Excludes(
      {command.AddFlag("--layers", &flags->layers, "n_layer").ShowDefault(),
       command.AddFlag("--heads", &flags->heads, "n_head").ShowDefault(),
       command.AddFlag("--width", &flags->width, "n_embd").ShowDefault(),
       command.AddFlag("--inner", &flags->inner, "n_inner [4 * --width]"),
       command.AddFlag("--positions", &flags->positions, "n_positions")
           .ShowDefault()});
  AddTrainingFlags(command, &flags->training);
  command.OnSelected([flags, result] { *result = Run(*flags); });
}

}  // namespace pot
