#if defined(__x86_64__)

#include <cstdint>

#include "engine/base/half.h"
#include "engine/kernels/kernel_sets.h"
#include "engine/kernels/unroll.h"
#include "engine/kernels/x86_intrinsics.h"

#define POT_TARGET __attribute__((target("avx2,f16c")))

namespace pot {
namespace {

#include "engine/kernels/float_vector.inc"

POT_INLINE F16 LoadHalf(const uint16_t* half) {
  const __m128i* const from = reinterpret_cast<const __m128i*>(half);
  const __m256 parts[] = {_mm256_cvtph_ps(_mm_loadu_si128(from)),
                          _mm256_cvtph_ps(_mm_loadu_si128(from + 1))};
  F16 v;
  __builtin_memcpy(&v, parts, sizeof v);
  return v;
}

POT_TARGET void FloatToHalf(const float* x, int64_t count, uint16_t* half) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i v =
        _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(half + i), v);
  }
  for (; i < count; ++i) half[i] = FloatToHalfBits(x[i]);
}

}  // namespace
}  // namespace pot

#include "engine/kernels/float_ops.inc"

namespace pot {

void SetAvx2FloatOps(KernelTable* table) { SetFloatOps(table); }

}  // namespace pot

#endif  // defined(__x86_64__)
