// AVX2: magnitudes by vpshufb, signs moved onto the activations by vpsignb,
// products by vpmaddubsw (unsigned magnitude times signed activation).
//
// Exact: magnitudes are at most 128 and |a| <= 127, so vpmaddubsw's sum of two
// products is at most 2 * 128 * 127 = 32 512 < 2^15 and never saturates. It is
// widened to int32 at once. -a fits int8 because a is never -128.
#if defined(__x86_64__)

#include <cstdlib>
#include <cstring>

#include "engine/kernels/kernel_sets.h"
#include "engine/kernels/packed_pot_matrix.h"
#include "engine/kernels/x86_intrinsics.h"

#define POT_TARGET __attribute__((target("avx2")))

namespace pot {
namespace {

// How far ahead of its use the stream of codes is fetched.
constexpr int64_t kPrefetchBytes = 8192;

struct Book {
  __m256i magnitude;
  __m256i sign;  // -1, 0 or 1
};

POT_TARGET inline Book MakeBook(const PotFormat& format) {
  alignas(16) uint8_t magnitude[16];
  alignas(16) int8_t sign[16];
  for (int code = 0; code < 16; ++code) {
    const int32_t level = format.levels[code];
    magnitude[code] = static_cast<uint8_t>(std::abs(level));
    sign[code] = static_cast<int8_t>((level > 0) - (level < 0));
  }
  return {_mm256_broadcastsi128_si256(
              _mm_load_si128(reinterpret_cast<const __m128i*>(magnitude))),
          _mm256_broadcastsi128_si256(
              _mm_load_si128(reinterpret_cast<const __m128i*>(sign)))};
}

// Four activations in every lane.
POT_TARGET inline __m256i Broadcast4(const int8_t* a) {
  int32_t word;
  std::memcpy(&word, a, 4);
  return _mm256_set1_epi32(word);
}

// Sums of four products per 32-bit lane.
POT_TARGET inline __m256i Products(__m256i magnitude, __m256i sign, __m256i a) {
  const __m256i pairs =
      _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(a, sign));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

// Outputs [0, 8 * kVectors) of `codes` for kRows rows.
template <int kRows, int kVectors, bool kPrefetch>
POT_TARGET inline void DotTile(const uint8_t* codes, Book book, const int8_t* a,
                               int64_t a_stride, int64_t steps, int32_t* acc) {
  const __m256i mask = _mm256_set1_epi8(15);
  __m256i sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm256_setzero_si256();
  }
  for (int64_t step = 0; step < steps; ++step) {
    if (kPrefetch) {
      for (int line = 0; line < PackedPotMatrix::kStepBytes; line += 64) {
        _mm_prefetch(
            reinterpret_cast<const char*>(codes) + kPrefetchBytes + line,
            _MM_HINT_T0);
      }
    }
    for (int v = 0; v < kVectors; ++v) {
      const __m256i bytes =
          _mm256_load_si256(reinterpret_cast<const __m256i*>(codes + 32 * v));
      const __m256i low = _mm256_and_si256(bytes, mask);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), mask);
      const __m256i low_magnitude = _mm256_shuffle_epi8(book.magnitude, low);
      const __m256i low_sign = _mm256_shuffle_epi8(book.sign, low);
      const __m256i high_magnitude = _mm256_shuffle_epi8(book.magnitude, high);
      const __m256i high_sign = _mm256_shuffle_epi8(book.sign, high);
      for (int r = 0; r < kRows; ++r) {
        const int8_t* x = a + r * a_stride;
        const __m256i both = _mm256_add_epi32(
            Products(low_magnitude, low_sign, Broadcast4(x)),
            Products(high_magnitude, high_sign, Broadcast4(x + 4)));
        sum[r][v] = _mm256_add_epi32(sum[r][v], both);
      }
    }
    codes += PackedPotMatrix::kStepBytes;
    a += PackedPotMatrix::kStepInputs;
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(
                              acc + r * PackedPotMatrix::kBlockOutputs + 8 * v),
                          sum[r][v]);
    }
  }
}

// All 64 outputs in tiles of kVectors vectors; only the first tile fetches.
template <int kRows, int kVectors>
POT_TARGET void DotRows(const uint8_t* codes, Book book, const int8_t* a,
                        int64_t a_stride, int64_t steps, int32_t* acc) {
  DotTile<kRows, kVectors, true>(codes, book, a, a_stride, steps, acc);
  for (int v = kVectors; v < 8; v += kVectors) {
    DotTile<kRows, kVectors, false>(codes + 32 * v, book, a, a_stride, steps,
                                    acc + 8 * v);
  }
}

}  // namespace

POT_TARGET void Avx2PotDot(const uint8_t* codes, const PotFormat& format,
                           const int8_t* a, int64_t a_stride, int num_rows,
                           int64_t steps, int32_t* acc) {
  const Book book = MakeBook(format);
  for (; num_rows >= 4; num_rows -= 4) {
    DotRows<4, 2>(codes, book, a, a_stride, steps, acc);
    a += 4 * a_stride;
    acc += 4 * PackedPotMatrix::kBlockOutputs;
  }
  switch (num_rows) {
    case 1:
      return DotRows<1, 8>(codes, book, a, a_stride, steps, acc);
    case 2:
      return DotRows<2, 4>(codes, book, a, a_stride, steps, acc);
    case 3:
      return DotRows<3, 2>(codes, book, a, a_stride, steps, acc);
    default:
      return;
  }
}

}  // namespace pot

#endif  // defined(__x86_64__)
