// QuantizeGroup as thresholds, for loops over all weights of a model. Made by
// asking QuantizeGroup itself, so that training cannot round otherwise than
// export.
#ifndef POT_TRAINER_QUANTIZATION_ROUNDING_TABLE_H_
#define POT_TRAINER_QUANTIZATION_ROUNDING_TABLE_H_

#include <array>

#include "engine/quant/pot_quantizer.h"

namespace pot {

// Rounds x = w / scale: |level| = min(first + sum of rise[j] over the j with
// |x| > threshold[j], limit[x < 0]), with the sign of x.
struct RoundingTable {
  static constexpr int kMaxSteps = 32;
  // `steps` is a multiple of this; what is padded never adds.
  static constexpr int kStepBlock = 4;

  int steps = 0;
  float first = 0.0f;
  std::array<float, kMaxSteps> threshold{};  // ascending
  std::array<float, kMaxSteps> rise{};
  std::array<float, 2> limit{};
};

// `options` are such that CheckQuantizeOptions accepts them.
RoundingTable MakeRoundingTable(const QuantizeOptions& options);

}  // namespace pot

#endif  // POT_TRAINER_QUANTIZATION_ROUNDING_TABLE_H_
