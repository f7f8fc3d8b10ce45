#include "trainer/training_flags.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "trainer/progress_bar.h"

namespace pot {
namespace {

constexpr int64_t kMaxSteps = 10000000;
constexpr int64_t kMaxBatch = 4096;

absl::Status CheckRange(absl::string_view flag, double value, double low,
                        double high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " must be in [", low, ", ", high, "], not ", value));
}

absl::Status CheckRanges(const TrainingFlags& f, int64_t n_positions) {
  POT_RETURN_IF_ERROR(CheckRange("--steps", f.steps, 1, kMaxSteps));
  POT_RETURN_IF_ERROR(CheckRange("--warmup", f.warmup, -1, f.steps));
  POT_RETURN_IF_ERROR(CheckRange("--lr", f.rate, 1e-12, 1));
  POT_RETURN_IF_ERROR(CheckRange("--final-ratio", f.final_ratio, 0, 1));
  POT_RETURN_IF_ERROR(CheckRange("--beta1", f.beta1, 0, 0.999999));
  POT_RETURN_IF_ERROR(CheckRange("--beta2", f.beta2, 0, 0.999999));
  POT_RETURN_IF_ERROR(CheckRange("--epsilon", f.epsilon, 1e-30, 1));
  POT_RETURN_IF_ERROR(CheckRange("--weight-decay", f.weight_decay, 0, 1));
  POT_RETURN_IF_ERROR(CheckRange("--clip", f.clip_norm, 0, 1e9));
  POT_RETURN_IF_ERROR(CheckRange("--batch", f.sequences, 1, kMaxBatch));
  POT_RETURN_IF_ERROR(
      CheckRange("--accumulation", f.accumulation, 1, kMaxBatch));
  if (f.context != 0) {
    POT_RETURN_IF_ERROR(CheckRange("--context", f.context, 2, n_positions));
  }
  POT_RETURN_IF_ERROR(CheckRange("--dropout", f.dropout, 0, 0.99));
  POT_RETURN_IF_ERROR(
      CheckRange("--eval-every", f.evaluate_every, 0, kMaxSteps));
  POT_RETURN_IF_ERROR(
      CheckRange("--snapshot-every", f.snapshot_every, 0, kMaxSteps));
  if (f.window != 0) {
    POT_RETURN_IF_ERROR(CheckRange("--window", f.window, 1, n_positions));
  }
  return CheckRange("--patience", f.patience, 0, 1000000);
}

template <typename T>
absl::StatusOr<T> Choose(
    absl::string_view flag, absl::string_view value,
    std::initializer_list<std::pair<absl::string_view, T>> choices) {
  std::string known;
  for (const auto& [name, choice] : choices) {
    if (name == value) return choice;
    absl::StrAppend(&known, known.empty() ? "" : ", ", name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " must be one of ", known, ", not ", Quote(value)));
}

absl::StatusOr<TokenCorpus> ReadCorpus(const std::vector<std::string>& paths,
                                       const std::string& slice,
                                       const TrainingFlags& flags,
                                       const Tokenizer& tokenizer,
                                       const std::string& digest) {
  CorpusOptions options;
  POT_ASSIGN_OR_RETURN(options.slice, ParseTextSlice(slice));
  options.cache_directory = flags.token_cache;
  options.tokenizer_digest = digest;
  ProgressBar bar("tokenizing");
  options.progress = [&bar](int64_t done, int64_t total) {
    bar.Update(done, total);
    return true;
  };
  return TokenizeFiles(paths, tokenizer, options);
}

}  // namespace

void AddTrainingFlags(const Command& command, TrainingFlags* flags) {
  command.AddFlag("--train", &flags->train, "Training texts, UTF-8").Required();
  command
      .AddFlag("--train-slice", &flags->train_slice,
               "Part of the training texts, by bytes: 0:0.8")
      .ShowDefault();
  command.AddFlag("--val", &flags->validation,
                  "Validation texts [those of --train]");
  command.AddFlag("--val-slice", &flags->validation_slice,
                  "Part of the validation texts: 0.8:0.9 [all; without --val "
                  "0.9:1]");
  command.AddFlag("--token-cache", &flags->token_cache,
                  "Directory that keeps tokenized texts between runs");

  command.AddFlag("--steps", &flags->steps, "Optimizer steps").ShowDefault();
  command.AddFlag("--warmup", &flags->warmup,
                  "Steps of linear warm-up [2 % of --steps]");
  command.AddFlag("--lr", &flags->rate, "Peak learning rate").ShowDefault();
  command
      .AddFlag("--schedule", &flags->shape,
               "After the warm-up: cosine, linear or constant")
      .ShowDefault();
  command
      .AddFlag("--final-ratio", &flags->final_ratio,
               "Learning rate at the end over its peak")
      .ShowDefault();
  command.AddFlag("--beta1", &flags->beta1, "AdamW").ShowDefault();
  command.AddFlag("--beta2", &flags->beta2, "AdamW").ShowDefault();
  command.AddFlag("--epsilon", &flags->epsilon, "AdamW").ShowDefault();
  command
      .AddFlag("--weight-decay", &flags->weight_decay, "AdamW, matrices only")
      .ShowDefault();
  command
      .AddFlag("--clip", &flags->clip_norm,
               "Largest norm of the gradient; 0 does not clip")
      .ShowDefault();

  command.AddFlag("--batch", &flags->sequences, "Sequences per pass")
      .ShowDefault();
  command.AddFlag("--accumulation", &flags->accumulation, "Passes per step")
      .ShowDefault();
  command.AddFlag("--context", &flags->context,
                  "Tokens per sequence [the model's context]");
  command
      .AddFlag("--order", &flags->order,
               "random: windows with replacement; epochs: each once")
      .ShowDefault();
  command
      .AddFlag("--loss", &flags->loss,
               "all positions, or last-token as in arXiv 2601.02298")
      .ShowDefault();
  command.AddFlag("--dropout", &flags->dropout, "Of every layer").ShowDefault();
  command
      .AddFlag("--precision", &flags->precision,
               "Of matrix products: auto, f32 or bf16")
      .ShowDefault();
  command.AddFlag("--seed", &flags->seed, "Of data, weights and dropout")
      .AtLeastZero()
      .ShowDefault();

  command.AddFlag("--eval-every", &flags->evaluate_every,
                  "Steps between evaluations [a twentieth of --steps]");
  command.AddFlag("--eval-tokens", &flags->evaluation_tokens,
                  "Of the validation text [all]");
  command.AddFlag("--window", &flags->window, "Of an evaluation [--context]");
  command.AddFlag("--patience", &flags->patience,
                  "Stop after so many evaluations without a better one");
  command.AddFlag("--snapshot-every", &flags->snapshot_every,
                  "Steps between snapshots [--eval-every]");
  command.AddFlag("--state", &flags->state,
                  "Directory of snapshots: a run that finds one goes on "
                  "from it");
}

absl::StatusOr<TrainingOptions> TrainingOptionsOf(const TrainingFlags& flags,
                                                  int64_t n_positions) {
  POT_RETURN_IF_ERROR(CheckRanges(flags, n_positions));
  TrainingOptions options;
  options.schedule.peak = flags.rate;
  options.schedule.steps = flags.steps;
  options.schedule.warmup_steps =
      flags.warmup >= 0 ? flags.warmup : flags.steps / 50;
  POT_ASSIGN_OR_RETURN(
      options.schedule.shape,
      Choose<ScheduleShape>("--schedule", flags.shape,
                            {{"cosine", ScheduleShape::kCosine},
                             {"linear", ScheduleShape::kLinear},
                             {"constant", ScheduleShape::kConstant}}));
  options.schedule.final_ratio = flags.final_ratio;
  options.optimizer = {flags.beta1, flags.beta2, flags.epsilon,
                       flags.weight_decay};
  options.clip_norm = flags.clip_norm;
  POT_ASSIGN_OR_RETURN(options.batch.order,
                       Choose<BatchOrder>("--order", flags.order,
                                          {{"random", BatchOrder::kRandom},
                                           {"epochs", BatchOrder::kEpochs}}));
  options.batch.sequences = flags.sequences;
  options.batch.micro_batches = flags.accumulation;
  options.batch.context = flags.context != 0 ? flags.context : n_positions;
  options.batch.seed = flags.seed;
  POT_ASSIGN_OR_RETURN(options.loss.last_position,
                       Choose<bool>("--loss", flags.loss,
                                    {{"all", false}, {"last-token", true}}));
  options.dropout = flags.dropout;
  options.seed = flags.seed;
  POT_ASSIGN_OR_RETURN(
      options.precision,
      Choose<Precision>(
          "--precision", flags.precision,
          {{"auto", HasNativeBf16() ? Precision::kBf16 : Precision::kF32},
           {"f32", Precision::kF32},
           {"bf16", Precision::kBf16}}));
  return options;
}

absl::StatusOr<LoopOptions> LoopOptionsOf(const TrainingFlags& flags,
                                          int64_t n_positions) {
  POT_RETURN_IF_ERROR(CheckRanges(flags, n_positions));
  LoopOptions options;
  options.evaluate_every = flags.evaluate_every > 0
                               ? flags.evaluate_every
                               : std::max<int64_t>(1, flags.steps / 20);
  options.snapshot_every =
      flags.snapshot_every > 0 ? flags.snapshot_every : options.evaluate_every;
  const int64_t context = flags.context != 0 ? flags.context : n_positions;
  options.protocol.window = flags.window != 0 ? flags.window : context;
  options.protocol.stride = options.protocol.window;
  options.evaluation_tokens = flags.evaluation_tokens;
  options.patience = flags.patience;
  options.snapshot_directory = flags.state;
  return options;
}

absl::StatusOr<TrainingTexts> ReadTrainingTexts(
    const TrainingFlags& flags, const Tokenizer& tokenizer,
    const std::string& tokenizer_directory, bool self_generated) {
  std::string digest;
  if (!flags.token_cache.empty()) {
    POT_ASSIGN_OR_RETURN(digest, TokenizerDigest(tokenizer_directory));
  }
  const bool held_out = flags.validation.empty();
  const auto slice_or = [](const std::string& slice, const char* otherwise) {
    return slice.empty() ? std::string(otherwise) : slice;
  };
  TrainingTexts texts{TokenCorpus(tokenizer.vocab_size()),
                      TokenCorpus(tokenizer.vocab_size())};
  if (!self_generated) {
    POT_ASSIGN_OR_RETURN(
        texts.train,
        ReadCorpus(flags.train,
                   slice_or(flags.train_slice, held_out ? "0:0.9" : "0:1"),
                   flags, tokenizer, digest));
  }
  POT_ASSIGN_OR_RETURN(
      texts.validation,
      ReadCorpus(held_out ? flags.train : flags.validation,
                 slice_or(flags.validation_slice, held_out ? "0.9:1" : "0:1"),
                 flags, tokenizer, digest));
  if (texts.validation.size() < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("the validation text has ", texts.validation.size(),
                     " tokens, at least 2 are needed"));
  }
  return texts;
}

}  // namespace pot
