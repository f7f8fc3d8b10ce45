// The command line flags of everything that trains here.
#ifndef POT_TRAINER_TRAINING_FLAGS_H_
#define POT_TRAINER_TRAINING_FLAGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/command.h"
#include "engine/text/tokenizer.h"
#include "trainer/data/token_corpus.h"
#include "trainer/training/training_loop.h"
#include "trainer/training/training_run.h"

namespace pot {

struct TrainingFlags {
  std::vector<std::string> train, validation;
  // Empty: all of it, and without validation texts the first nine tenths of the
  // training texts and their last.
  std::string train_slice, validation_slice;
  std::string token_cache;

  int64_t steps = 2000;
  int64_t warmup = -1;  // 2 % of the steps
  double rate = 1e-3;
  std::string shape = "cosine";
  double final_ratio = 0;
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0;
  double clip_norm = 1;

  int64_t sequences = 12, accumulation = 1, context = 0;
  std::string order = "random";
  std::string loss = "all";
  double dropout = 0;
  std::string precision = "auto";
  uint64_t seed = 0;

  int64_t evaluate_every = 0;  // a twentieth of the run
  int64_t evaluation_tokens = -1;
  int64_t window = 0;  // the context
  int patience = 0;
  int64_t snapshot_every = 0;  // as evaluate_every
  std::string state;
};

// Adds them to `command`, with what `flags` holds as defaults.
void AddTrainingFlags(const Command& command, TrainingFlags* flags);

// INVALID_ARGUMENT naming flag, limit and given value. `n_positions` is the
// context where none is given.
absl::StatusOr<TrainingOptions> TrainingOptionsOf(const TrainingFlags& flags,
                                                  int64_t n_positions);
absl::StatusOr<LoopOptions> LoopOptionsOf(const TrainingFlags& flags,
                                          int64_t n_positions);

// Both texts, tokenized; progress is shown.
struct TrainingTexts {
  TokenCorpus train, validation;
};
absl::StatusOr<TrainingTexts> ReadTrainingTexts(
    const TrainingFlags& flags, const Tokenizer& tokenizer,
    const std::string& tokenizer_directory, bool self_generated);

}  // namespace pot

#endif  // POT_TRAINER_TRAINING_FLAGS_H_
