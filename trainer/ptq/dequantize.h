#ifndef POT_TRAINER_PTQ_DEQUANTIZE_H_
#define POT_TRAINER_PTQ_DEQUANTIZE_H_

#include <cstdint>

#include "absl/types/span.h"
#include "engine/quant/pot_matrix.h"
#include "trainer/base/parallel.h"

namespace pot {

// weights[rows][cols] become those of `matrix`.
inline void Dequantize(const PotMatrix& matrix, absl::Span<float> weights) {
  const int64_t cols = matrix.cols();
  ParallelFor(matrix.rows(), 16, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      matrix.DequantizeRow(row, weights.subspan(row * cols, cols));
    }
  });
}

}  // namespace pot

#endif  // POT_TRAINER_PTQ_DEQUANTIZE_H_
