#include <cstdint>

#include "engine/base/half.h"
#include "engine/kernels/kernel_sets.h"
#include "engine/kernels/unroll.h"

#define POT_TARGET

namespace pot {
namespace {

#include "engine/kernels/float_vector.inc"

POT_INLINE F16 LoadHalf(const uint16_t* half) {
  F16 v;
  for (int64_t i = 0; i < kLanes; ++i) v[i] = HalfBitsToFloat(half[i]);
  return v;
}

void FloatToHalf(const float* x, int64_t count, uint16_t* half) {
  for (int64_t i = 0; i < count; ++i) half[i] = FloatToHalfBits(x[i]);
}

}  // namespace
}  // namespace pot

#include "engine/kernels/float_ops.inc"

namespace pot {

void SetBaselineFloatOps(KernelTable* table) { SetFloatOps(table); }

}  // namespace pot
