#ifndef POT_ENGINE_BASE_TRANSPOSE_H_
#define POT_ENGINE_BASE_TRANSPOSE_H_

#include <algorithm>
#include <cstdint>

namespace pot {

// out[columns][rows] = in[rows][columns], in tiles of which two, 4 KiB each,
// fit the first cache.
inline void Transpose(const float* in, int64_t rows, int64_t columns,
                      float* out) {
  constexpr int64_t kTile = 32;
  for (int64_t i0 = 0; i0 < rows; i0 += kTile) {
    for (int64_t j0 = 0; j0 < columns; j0 += kTile) {
      for (int64_t j = j0; j < std::min(columns, j0 + kTile); ++j) {
        for (int64_t i = i0; i < std::min(rows, i0 + kTile); ++i) {
          out[j * rows + i] = in[i * columns + j];
        }
      }
    }
  }
}

}  // namespace pot

#endif  // POT_ENGINE_BASE_TRANSPOSE_H_
