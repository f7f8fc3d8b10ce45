// Products with the outliers of a dense-and-sparse matrix: an addition to what
// the other kernels compute of its grid.
#ifndef POT_ENGINE_KERNELS_POT_OUTLIERS_H_
#define POT_ENGINE_KERNELS_POT_OUTLIERS_H_

#include <cstdint>

#include "engine/kernels/pot_blocks.h"

namespace pot {

struct PotOutlier {
  uint16_t input;
  uint16_t output;  // of the block's 64
  int16_t value;
};

// Those of a block of 64 outputs, or of the last, which may have fewer.
struct PotOutlierBlock {
  const PotOutlier* outliers;
  int64_t count;
  float scale;
  int64_t outputs;
};

// y[r * y_stride + n] += float(sum over the outliers i of output n of value(i)
// * (a(r, input(i)) - z(r))) * scale * scale(r), for every output n of the
// block: the sum is exact in int32 (kMaxOutlierSum), its conversion, both
// products and the addition are rounded to float.
using AddOutliersFunction = void(const PotOutlierBlock& block,
                                 const PotRows& rows, float* y,
                                 int64_t y_stride);

inline constexpr int kOutlierTileRows = 16;
inline constexpr int64_t kOutlierBlockOutputs = 64;

// The same for many rows, up to kOutlierTileRows. rows.levels are transposed:
// that of row r and input k is levels[k * kOutlierTileRows + r], also for rows
// from rows.count on; rows.stride is not used.
using AddOutlierTileFunction = AddOutliersFunction;

// rows.levels of the tile's rows: levels[count][stride], stride a multiple of
// 8, to transposed[stride][kOutlierTileRows].
void TransposeLevels(const int8_t* levels, int64_t count, int64_t stride,
                     int8_t* transposed);

}  // namespace pot

#endif  // POT_ENGINE_KERNELS_POT_OUTLIERS_H_
