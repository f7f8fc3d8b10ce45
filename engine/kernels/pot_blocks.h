// Products of few rows with consecutive blocks of a matrix, from codes to
// floats in one go: between blocks the stream of codes never stops.
#ifndef POT_ENGINE_KERNELS_POT_BLOCKS_H_
#define POT_ENGINE_KERNELS_POT_BLOCKS_H_

#include <cstdint>

#include "engine/quant/activation.h"
#include "engine/quant/pot_format.h"

namespace pot {

// Blocks of a PackedPotMatrix, one behind the other; at most 4 bits per code.
// The pointers are to what belongs to the first.
struct PotBlocks {
  const PotFormat* format;
  const uint8_t* codes;
  // 64 floats per group and block; one scale everywhere where the stride from
  // a group to the next is 0 and not 64.
  const float* scales;
  int64_t scale_stride;
  const int32_t* level_sums;  // 64 per group and block
  // 64 per group and block; then there are 64 scales and level sums per block.
  // Null: none.
  const int8_t* factors;
  const float* bias;          // null: none
  int64_t outputs;            // the last block may have fewer than 64
  int64_t steps;              // of a row
  int64_t group_steps;        // of a group; the last may have fewer
};

// Rows of quantized activations, each padded with zeros to whole steps.
struct PotRows {
  const int8_t* levels;  // |level| <= 127
  int64_t stride;
  const ActivationScale* scales;
  int64_t count;
};

// y[r * y_stride + n] = (sum over groups g, in order, of scale(n, g) * (acc(r,
// n, g) - z(r) * level_sum(n, g))) * scale(r) + bias[n] for n < outputs, acc as
// KernelTable::pot_dot computes it. The parenthesis is exact in int32 and
// rounded to float once; then every operation is rounded, sums start at 0.
//
// With factors: y = (scale(n) * (sum over groups of factor(n, g) * acc(r, n, g)
// - z(r) * level_sum(n))) * scale(r) + bias[n], the inner parenthesis exact.
using PotBlocksFunction = void(const PotBlocks& blocks, const PotRows& rows,
                               float* y, int64_t y_stride);

}  // namespace pot

#endif  // POT_ENGINE_KERNELS_POT_BLOCKS_H_
