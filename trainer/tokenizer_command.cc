#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "trainer/commands.h"
#include "trainer/data/bpe_trainer.h"
#include "trainer/data/text_slice.h"
#include "trainer/progress_bar.h"

namespace pot {
namespace {

struct Flags {
  std::vector<std::string> texts;
  int64_t size = 8192;
  std::string slice = "0:1";
  std::string out;
  bool characters = false;
};

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

absl::StatusOr<TrainedVocabulary> TrainBpe(absl::string_view text,
                                           int64_t size) {
  BpeTrainer trainer;
  {
    ProgressBar bar("counting");
    POT_RETURN_IF_ERROR(trainer.AddText(
        text, [&](int64_t done, int64_t total) { bar.Update(done, total); }));
  }
  ProgressBar bar("merging");
  return trainer.Train(
      size, [&](int64_t done, int64_t total) { bar.Update(done, total); });
}

absl::Status Run(const Flags& flags) {
  const auto start = std::chrono::steady_clock::now();
  POT_ASSIGN_OR_RETURN(const TextSlice slice, ParseTextSlice(flags.slice));
  POT_ASSIGN_OR_RETURN(const std::string joined, ReadTexts(flags.texts));
  const absl::string_view text = CutText(joined, slice);
  if (text.empty()) return absl::InvalidArgumentError("the text is empty");
  TrainedVocabulary vocabulary;
  if (flags.characters) {
    vocabulary = CharacterVocabulary(text);
  } else {
    POT_ASSIGN_OR_RETURN(vocabulary, TrainBpe(text, flags.size));
  }
  POT_RETURN_IF_ERROR(WriteVocabulary(vocabulary, flags.out));
  absl::PrintF("%s: %d tokens, %d merges, from %d bytes in %.1f s\n", flags.out,
               vocabulary.tokens.size(), vocabulary.merges.size(), text.size(),
               SecondsSince(start));
  if (!flags.characters &&
      static_cast<int64_t>(vocabulary.tokens.size()) < flags.size) {
    absl::FPrintF(stderr,
                  "pot-trainer: no pair of tokens occurs twice any more: %d "
                  "tokens instead of %d\n",
                  vocabulary.tokens.size(), flags.size);
  }
  return absl::OkStatus();
}

}  // namespace

void AddTokenizerCommand(const Command& app, absl::Status* result) {
  auto flags = std::make_shared<Flags>();
  const Command command = app.AddCommand(
      "tokenizer", "Train a byte-level BPE vocabulary, or list the characters");
  command
      .AddFlag("--text", &flags->texts,
               "UTF-8 text file; several are joined in this order")
      .Required();
  command
      .AddFlag("--size", &flags->size,
               "Tokens: 256 bytes, merges and <|endoftext|>")
      .ShowDefault();
  command
      .AddFlag("--slice", &flags->slice,
               "BEGIN:END, the part of the text as fractions")
      .ShowDefault();
  command.AddSwitch("--characters", &flags->characters,
                    "One token for each character that occurs, no merges");
  command.AddFlag("--out", &flags->out, "Directory to create").Required();
  command.OnSelected([flags, result] { *result = Run(*flags); });
}

}  // namespace pot
