#ifndef POT_ENGINE_SAMPLING_SAMPLING_PARAMS_H_
#define POT_ENGINE_SAMPLING_SAMPLING_PARAMS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"

namespace pot {

// How the next token is drawn. The steps apply in the order of the fields:
// bias and bans, penalties, temperature, top-k, typical-p, top-p, min-p.
struct SamplingParams {
  struct Bias {
    int32_t id;
    float bias;
  };
  // Added to logits; |bias| <= 100. At most 1024.
  std::vector<Bias> logit_bias;
  // When not empty, only these may be drawn.
  std::vector<int32_t> allowed_ids;
  std::vector<int32_t> banned_ids;

  // Over tokens of prompt and generation: logit > 0 ? logit / r : logit * r
  // (CTRL, arXiv 1909.05858). In (0, 10]; 1 is off.
  float repetition_penalty = 1.0f;
  // Over generated tokens: subtracts presence + frequency * count. In
  // [-10, 10]; 0 is off.
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;

  // In [0, 100]; 0 takes the most probable token, the lowest id on a tie.
  float temperature = 1.0f;
  int32_t top_k = 0;       // >= 0; 0 is off
  float typical_p = 1.0f;  // (0, 1]; locally typical, arXiv 2202.00666
  float top_p = 1.0f;      // (0, 1]; nucleus, arXiv 1904.09751
  float min_p = 0.0f;      // [0, 1]; share of the most probable token's

  uint64_t seed = 0;
};

// INVALID_ARGUMENT naming field, limit and given value; ids are checked against
// `vocab_size`. Everything banned is an error too.
absl::Status ValidateSamplingParams(const SamplingParams& params,
                                    int vocab_size);

}  // namespace pot

#endif  // POT_ENGINE_SAMPLING_SAMPLING_PARAMS_H_
