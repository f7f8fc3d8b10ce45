#if defined(__x86_64__)

#include <cstdint>

#include "engine/base/half.h"
#include "engine/kernels/kernel_sets.h"
#include "engine/kernels/unroll.h"
#include "engine/kernels/x86_intrinsics.h"

#define POT_TARGET __attribute__((target("avx512f,avx512bw,avx512vl")))

namespace pot {
namespace {

#include "engine/kernels/float_vector.inc"

POT_INLINE F16 LoadHalf(const uint16_t* half) {
  return _mm512_cvtph_ps(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(half)));
}

POT_TARGET void FloatToHalf(const float* x, int64_t count, uint16_t* half) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i v =
        _mm512_cvtps_ph(_mm512_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(half + i), v);
  }
  for (; i < count; ++i) half[i] = FloatToHalfBits(x[i]);
}

}  // namespace
}  // namespace pot

#include "engine/kernels/float_ops.inc"

namespace pot {

void SetAvx512FloatOps(KernelTable* table) { SetFloatOps(table); }

}  // namespace pot

#endif  // defined(__x86_64__)
