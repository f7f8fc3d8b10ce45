// A calibration text as sequences of one length.
#ifndef POT_TRAINER_PTQ_CALIBRATION_SEQUENCES_H_
#define POT_TRAINER_PTQ_CALIBRATION_SEQUENCES_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/gpt2/gpt2_config.h"
#include "trainer/data/token_corpus.h"
#include "trainer/gpt2/trunk.h"

namespace pot {

class CalibrationSequences {
 public:
  // What is left at the end of `text` is left out. INVALID_ARGUMENT for a
  // context outside [1, n_positions], and when there is no whole sequence.
  static absl::StatusOr<CalibrationSequences> Create(const TokenCorpus& text,
                                                     const Gpt2Config& config,
                                                     int64_t context);

  int64_t count() const { return count_; }
  int64_t context() const { return context_; }
  // (count, context).
  const std::vector<int32_t>& tokens() const { return tokens_; }

  // Calls fn(pass, first row) for all sequences, as many at a time as make up
  // `rows` tokens, or one.
  template <typename Function>
  void ForEachPass(int64_t rows, const Function& fn) const {
    const int64_t step = std::max<int64_t>(1, rows / context_);
    for (int64_t first = 0; first < count_; first += step) {
      const int64_t row = first * context_;
      fn(TrunkPass{.sequences = std::min(step, count_ - first),
                   .context = context_,
                   .tokens = tokens_.data() + row},
         row);
    }
  }

  // The first `context` tokens, or all, of sequences from all over the text:
  // at most `tokens` in all, or one sequence.
  std::vector<int32_t> Sample(int64_t tokens, int64_t context) const;

 private:
  int64_t count_ = 0;
  int64_t context_ = 0;
  std::vector<int32_t> tokens_;
};

}  // namespace pot

#endif  // POT_TRAINER_PTQ_CALIBRATION_SEQUENCES_H_
