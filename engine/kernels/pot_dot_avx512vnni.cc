// AVX-512 VNNI with levels looked up by vpshufb, which uses the low four bits
// of an index and wants its top bit clear.
#if defined(__x86_64__)

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "engine/kernels/kernel_sets.h"
#include "engine/kernels/packed_pot_matrix.h"
#include "engine/kernels/unroll.h"
#include "engine/kernels/x86_intrinsics.h"

#define POT_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define POT_KERNEL_FUNCTION Avx512VnniPotDot
#define POT_BLOCKS_FUNCTION Avx512VnniPotBlocks

namespace pot {
namespace {

POT_TARGET inline __m512i LowLevels(__m512i book, __m512i bytes) {
  const __m512i mask = _mm512_set1_epi8(15);
  return _mm512_shuffle_epi8(book, _mm512_and_si512(bytes, mask));
}

POT_TARGET inline __m512i HighLevels(__m512i book, __m512i bytes) {
  return LowLevels(book, _mm512_srli_epi16(bytes, 4));
}

}  // namespace
}  // namespace pot

#include "engine/kernels/pot_dot_avx512.inc"

#endif  // defined(__x86_64__)
