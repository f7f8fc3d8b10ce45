#ifndef POT_ENGINE_SAMPLING_SAMPLER_H_
#define POT_ENGINE_SAMPLING_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/sampling/sampling_params.h"

namespace pot {

class CandidateSet;

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0.0f;  // natural logarithm
};

struct SampledToken {
  int32_t id = 0;
  // Log-probabilities under the model's own logits, before bias, penalties and
  // temperature: comparable between requests.
  float logprob = 0.0f;
  // The `num_top` most probable tokens, best first, ties by id.
  std::vector<TokenLogprob> top;
};

// Draws tokens for one sequence. The token at a position is a pure function of
// logits, parameters, tokens so far, seed, sequence index and position.
class Sampler {
 public:
  // `params` is valid for `vocab_size`. `sequence` tells the n samples of one
  // request apart.
  Sampler(SamplingParams params, int vocab_size, uint32_t sequence);

  // Tokens of the prompt, for the repetition penalty.
  void AddPrompt(absl::Span<const int32_t> tokens);

  // Draws the token at `position` of the sequence from logits[vocab_size] and
  // notes it for the penalties. `suppressed` ids cannot be drawn (end of text
  // before min_new_tokens). FAILED_PRECONDITION when nothing is left to draw;
  // DATA_LOSS when a logit is not finite; INVALID_ARGUMENT when there is not
  // one logit per token or the position is negative. An error notes nothing.
  absl::StatusOr<SampledToken> Sample(absl::Span<const float> logits,
                                      int64_t position, int num_top,
                                      absl::Span<const int32_t> suppressed);

 private:
  // FAILED_PRECONDITION when nothing is left to draw.
  // `greatest`: the id of the greatest logit.
  absl::StatusOr<int32_t> Choose(absl::Span<const float> logits,
                                 int32_t greatest, int64_t position,
                                 absl::Span<const int32_t> suppressed) const;
  bool EditsLogits() const;
  void EditLogits(CandidateSet* candidates) const;

  SamplingParams params_;
  int vocab_size_;
  uint32_t sequence_;
  // Of params_, ascending; allowed_ without the banned ones.
  std::vector<int32_t> allowed_;
  std::vector<int32_t> banned_;
  // Empty while the penalty that reads them is off.
  absl::flat_hash_set<int32_t> seen_;
  absl::flat_hash_map<int32_t, int32_t> generated_counts_;
};

// Log-probability of `id`, a token of the vocabulary, and the num_top best,
// under softmax(logits), which are finite and not none.
SampledToken LogprobOf(absl::Span<const float> logits, int32_t id, int num_top);

}  // namespace pot

#endif  // POT_ENGINE_SAMPLING_SAMPLER_H_
