// AVX-512 VNNI with levels looked up by vpermb, which uses the low six bits of
// an index: the book repeats every 16 bytes, so bits 4 and 5 need no mask.
#if defined(__x86_64__)

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "engine/kernels/kernel_sets.h"
#include "engine/kernels/packed_pot_matrix.h"
#include "engine/kernels/unroll.h"
#include "engine/kernels/x86_intrinsics.h"

#define POT_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")))
#define POT_KERNEL_FUNCTION Avx512VbmiPotDot
#define POT_BLOCKS_FUNCTION Avx512VbmiPotBlocks

namespace pot {
namespace {

POT_TARGET inline __m512i LowLevels(__m512i book, __m512i bytes) {
  return _mm512_permutexvar_epi8(bytes, book);
}

POT_TARGET inline __m512i HighLevels(__m512i book, __m512i bytes) {
  return _mm512_permutexvar_epi8(_mm512_srli_epi16(bytes, 4), book);
}

}  // namespace
}  // namespace pot

#include "engine/kernels/pot_dot_avx512.inc"

#endif  // defined(__x86_64__)
