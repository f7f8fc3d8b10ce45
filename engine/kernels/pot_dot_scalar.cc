// The reference that every other kernel must equal.
#include <algorithm>

#include "engine/kernels/kernel_sets.h"
#include "engine/kernels/packed_pot_matrix.h"

namespace pot {

void ScalarPotDot(const uint8_t* codes, const PotFormat& format,
                  const int8_t* a, int64_t a_stride, int num_rows,
                  int64_t steps, int32_t* acc) {
  constexpr int64_t kOutputs = PackedPotMatrix::kBlockOutputs;
  std::fill_n(acc, num_rows * kOutputs, 0);
  for (int64_t step = 0; step < steps; ++step) {
    for (int64_t n = 0; n < kOutputs; ++n) {
      for (int64_t j = 0; j < 4; ++j) {
        const uint8_t byte =
            codes[step * PackedPotMatrix::kStepBytes + 4 * n + j];
        const int32_t low = format.levels[byte & 15];
        const int32_t high = format.levels[byte >> 4];
        const int64_t k = step * PackedPotMatrix::kStepInputs + j;
        for (int row = 0; row < num_rows; ++row) {
          const int8_t* x = a + row * a_stride + k;
          acc[row * kOutputs + n] += low * x[0] + high * x[4];
        }
      }
    }
  }
}

}  // namespace pot
