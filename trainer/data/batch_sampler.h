// Which part of a corpus each training sequence is: a pure function of
// (seed, step, micro-batch, sequence). There is no state, so the data cursor of
// a run is the number of its steps alone.
#ifndef POT_TRAINER_DATA_BATCH_SAMPLER_H_
#define POT_TRAINER_DATA_BATCH_SAMPLER_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/data/token_corpus.h"

namespace pot {

enum class BatchOrder {
  // Windows drawn independently, with replacement (as nanoGPT does).
  kRandom,
  // Every window once an epoch, each epoch in an order of its own. Batches run
  // on across the end of an epoch.
  kEpochs,
};

struct BatchOptions {
  BatchOrder order = BatchOrder::kRandom;
  int64_t sequences = 0;      // B, of one micro-batch; >= 1
  int64_t micro_batches = 1;  // of one step; >= 1
  int64_t context = 0;        // T, inputs of a sequence; >= 1
  // Windows begin at its multiples. 0: 1 with kRandom, T with kEpochs. For a
  // corpus of separate sequences of T + 1 tokens (self_text.h) T + 1.
  int64_t stride = 0;
  uint64_t seed = 0;
};

class BatchSampler {
 public:
  // `corpus` must outlive this. INVALID_ARGUMENT naming the limit and the given
  // value, among others when the corpus has fewer than T + 1 tokens.
  static absl::StatusOr<BatchSampler> Create(const TokenCorpus* corpus,
                                             const BatchOptions& options);

  const BatchOptions& options() const { return options_; }  // stride filled in
  // Windows to choose from: floor((size - 1 - T) / stride) + 1.
  int64_t num_windows() const { return num_windows_; }
  // Steps, rounded up, after which each window was seen once (kEpochs), or as
  // many tokens as that (kRandom).
  int64_t steps_per_epoch() const;

  // Offset in the corpus of sequence i of micro-batch j of step s. Steps count
  // from 0.
  int64_t Start(int64_t step, int64_t micro_batch, int64_t sequence) const;

  // inputs (B, T): t[b .. b+T-1]; targets (B, T): t[b+1 .. b+T].
  void Fill(int64_t step, int64_t micro_batch, absl::Span<int32_t> inputs,
            absl::Span<int32_t> targets) const;

 private:
  BatchSampler(const TokenCorpus* corpus, const BatchOptions& options,
               int64_t num_windows);

  const TokenCorpus* corpus_;
  BatchOptions options_;
  int64_t num_windows_;
};

// Image of `index` under a permutation of [0, size) that `seed` and `epoch`
// choose; 0 <= index < size. A balanced Feistel network of six Philox rounds
// over the next even number of bits, walked along its cycle until it falls
// below `size` (Black and Rogaway, "Ciphers with Arbitrary Finite Domains",
// CT-RSA 2002): fewer than four walks on average.
int64_t PermutedIndex(uint64_t seed, uint64_t epoch, int64_t index,
                      int64_t size);

}  // namespace pot

#endif  // POT_TRAINER_DATA_BATCH_SAMPLER_H_
