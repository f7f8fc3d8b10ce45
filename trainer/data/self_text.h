// Data-free training text: what the base model itself writes (LLM-QAT, arXiv
// 2305.17888, section 3.1). A sequence begins with a random token, goes on with
// the most probable ones and is then sampled.
#ifndef POT_TRAINER_DATA_SELF_TEXT_H_
#define POT_TRAINER_DATA_SELF_TEXT_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/inference_engine.h"
#include "trainer/data/token_corpus.h"

namespace pot {

struct SelfTextOptions {
  // Sampled text: rounded up to whole sequences. [1, 2^32].
  int64_t tokens = int64_t{1} << 20;
  // Tokens of a sequence, [2, n_positions + 1]; 0: n_positions + 1, a training
  // window with its last target.
  int64_t sequence_tokens = 0;
  // Most probable tokens after the random one; [0, sequence_tokens).
  int64_t greedy_tokens = 4;
  float temperature = 1.0f;  // (0, 10]
  // Sequences that are generated together. [1, 1024].
  int64_t batch = 16;
  uint64_t seed = 0;
};

// Sequences of `sequence_tokens`, one after another; the vocabulary is the
// model's. An end of text is a token like any other: the sequence goes on, as
// training texts do. The tokens are a function of model and options, whatever
// the number of threads and, with PoT weights, the batch. INVALID_ARGUMENT
// naming field, limit and given value; RESOURCE_EXHAUSTED when the engine's KV
// budget does not hold `batch` sequences; DATA_LOSS when logits are not finite.
absl::StatusOr<TokenCorpus> GenerateSelfText(const LoadedModel& model,
                                             const SelfTextOptions& options,
                                             InferenceEngine* engine,
                                             const DataProgress& progress);

// The same, kept in `cache_directory` (made when absent) under a key of the
// options and `model_digest`, which must name the weights, such as a version's
// manifest digest.
absl::StatusOr<TokenCorpus> GenerateSelfTextCached(
    const LoadedModel& model, absl::string_view model_digest,
    const SelfTextOptions& options, const std::string& cache_directory,
    InferenceEngine* engine, const DataProgress& progress);

}  // namespace pot

#endif  // POT_TRAINER_DATA_SELF_TEXT_H_
