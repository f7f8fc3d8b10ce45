// A format's levels in the order that rounding needs. Internal to the
// quantizer.
#ifndef POT_ENGINE_QUANT_LEVEL_BOOK_H_
#define POT_ENGINE_QUANT_LEVEL_BOOK_H_

#include <array>

#include "engine/quant/pot_format.h"

namespace pot {

// Magnitudes of both signs' levels, ascending; each sign uses the first of
// them, up to its own limit.
struct LevelBook {
  static constexpr int kMaxMagnitudes = (1 << (PotFormat::kMaxBits - 1)) + 1;

  int count = 0;  // of magnitudes
  std::array<float, kMaxMagnitudes> magnitude{};
  // threshold[j]: where rounding goes from magnitude j to j + 1.
  std::array<float, kMaxMagnitudes> threshold{};
  // Index of the largest magnitude, and the code of each: [0] for levels
  // >= 0, [1] for negative ones (and 0, where the book has it).
  std::array<int, 2> last{};
  std::array<std::array<PotCode, kMaxMagnitudes>, 2> code{};
};

// Which of two magnitudes is nearer.
enum class RoundIn {
  kValue,  // thresholds are arithmetic means
  kLog2,   // geometric ones, but halfway to 0
};

// nullptr when `format` is not one of AllPotFormats().
const LevelBook* FindLevelBook(const PotFormat* format,
                               RoundIn round = RoundIn::kValue);

// out[i] = first + sum over j < count - 1 of (x[i] > threshold[j]) * rise[j],
// x >= 0: with rises of 1 the index of the magnitude nearest to x[i], with
// those between magnitudes the magnitude itself. Ties go to the smaller.
void RoundToBook(const LevelBook& book, float first, const float* rise,
                 const float* x, int n, float* out);

}  // namespace pot

#endif  // POT_ENGINE_QUANT_LEVEL_BOOK_H_
