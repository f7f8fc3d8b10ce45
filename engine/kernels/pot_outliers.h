// Products with the outliers of a dense-and-sparse matrix: an addition to what
// the other kernels compute of its grid.
#ifndef POT_ENGINE_KERNELS_POT_OUTLIERS_H_
#define POT_ENGINE_KERNELS_POT_OUTLIERS_H_

#include <cstdint>

#include "engine/kernels/pot_blocks.h"

namespace pot {

// Outputs come in spans; none of the following reaches over the end of one.
inline constexpr int64_t kOutlierSpan = 1024;

struct PotOutlier {
  uint16_t input;
  uint16_t output;  // of its span
  int16_t value;
};

// Those of consecutive outputs [first, first + outputs) of a span.
struct PotOutlierBlock {
  const PotOutlier* outliers;
  int64_t count;
  float scale;
  int64_t first;
  int64_t outputs;
};

// y[r * y_stride + n] += float(sum over the outliers i of output first + n of
// value(i) * (a(r, input(i)) - z(r))) * scale * scale(r) for n < outputs: the
// sum is exact in int32 (kMaxOutlierSum), its conversion, both
// products and the addition are rounded to float.
using AddOutliersFunction = void(const PotOutlierBlock& block,
                                 const PotRows& rows, float* y,
                                 int64_t y_stride);

inline constexpr int kOutlierTileRows = 16;
inline constexpr int64_t kOutlierTileOutputs = 64;

// The same for many rows, up to kOutlierTileRows, and up to kOutlierTileOutputs
// outputs. rows.levels are transposed:
// that of row r and input k is levels[k * kOutlierTileRows + r], also for rows
// from rows.count on; rows.stride is not used.
using AddOutlierTileFunction = AddOutliersFunction;

// rows.levels of the tile's rows: levels[count][stride], stride a multiple of
// 8, to transposed[stride][kOutlierTileRows].
void TransposeLevels(const int8_t* levels, int64_t count, int64_t stride,
                     int8_t* transposed);

}  // namespace pot

#endif  // POT_ENGINE_KERNELS_POT_OUTLIERS_H_
