// AVX-512 VNNI over unpacked levels: 6 rows times 64 outputs stay in registers.
//
#if defined(__x86_64__)

#include <algorithm>
#include <cstring>

#include "engine/kernels/kernel_sets.h"
#include "engine/kernels/packed_pot_matrix.h"
#include "engine/kernels/pot_tile.h"
#include "engine/kernels/unpacked_levels.h"
#include "engine/kernels/unroll.h"
#include "engine/kernels/x86_intrinsics.h"

#define POT_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

namespace pot {
namespace {

#include "engine/kernels/avx512_book.inc"

constexpr int kRowsInRegisters = 6;
constexpr int kVectors = 4;  // of 16 outputs

POT_TARGET inline void UnpackFours(__m512i codes, __m512i book,
                                   uint8_t* levels) {
  const __m512i nibbles = _mm512_and_si512(codes, _mm512_set1_epi8(15));
  _mm512_store_si512(levels, _mm512_shuffle_epi8(book, nibbles));
}

POT_TARGET void Unpack(const uint8_t* codes, const PotFormat& format,
                       int64_t steps, uint8_t* levels) {
  const Book book = MakeBook(format);
  const int64_t stride = UnpackedStride(format);
  for (int64_t step = 0; step < steps; ++step) {
    POT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const __m512i low = _mm512_load_si512(codes + 64 * v);
      const __m512i high = _mm512_srli_epi16(low, 4);
      UnpackFours(low, book.levels, levels + 64 * v);
      UnpackFours(high, book.levels, levels + stride + 64 * v);
      if (book.split) {
        UnpackFours(low, book.negative, levels + kPlaneBytes + 64 * v);
        UnpackFours(high, book.negative,
                    levels + stride + kPlaneBytes + 64 * v);
      }
    }
    codes += PackedPotMatrix::kStepBytes;
    levels += 2 * stride;
  }
}

// sum[r][v] += levels * a over `fours` times four inputs, whose levels lie
// `stride` apart. Half a step of codes is fetched at a time.
template <int kRows, bool kFetch>
POT_TARGET inline void Accumulate(const uint8_t* levels, int64_t stride,
                                  const int8_t* a, int64_t a_stride,
                                  int64_t fours, const uint8_t* next_codes,
                                  __m512i (&sum)[kRows][kVectors]) {
  for (int64_t four = 0; four < fours; ++four) {
    if (kFetch) {
      const char* const next = reinterpret_cast<const char*>(next_codes) +
                               four * (PackedPotMatrix::kStepBytes / 2);
      _mm_prefetch(next, _MM_HINT_T1);
      _mm_prefetch(next + 64, _MM_HINT_T1);
    }
    __m512i level[kVectors];
    POT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      level[v] = _mm512_load_si512(levels + 64 * v);
    }
    POT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const __m512i values = Broadcast4(a + r * a_stride);
      POT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], level[v], values);
      }
    }
    levels += stride;
    a += 4;
  }
}

template <int kRows, bool kFetch>
POT_TARGET void DotRows(const uint8_t* levels, bool split, const int8_t* a,
                        int64_t a_stride, int64_t steps,
                        const uint8_t* next_codes, int32_t* acc) {
  int32_t start[kRows] = {};
  for (int r = 0; r < kRows && !split; ++r) {
    start[r] = -BiasSum(a + r * a_stride, PackedPotMatrix::kStepInputs * steps);
  }
  __m512i sum[kRows][kVectors];
  POT_UNROLL
  for (int r = 0; r < kRows; ++r) {
    POT_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_set1_epi32(start[r]);
  }
  const int64_t stride = split ? 2 * kPlaneBytes : kPlaneBytes;
  if (split) {
    // Magnitudes of the negative levels first, to be subtracted.
    Accumulate<kRows, false>(levels + kPlaneBytes, stride, a, a_stride,
                             2 * steps, nullptr, sum);
    POT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      POT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = _mm512_sub_epi32(_mm512_setzero_si512(), sum[r][v]);
      }
    }
  }
  Accumulate<kRows, kFetch>(levels, stride, a, a_stride, 2 * steps, next_codes,
                            sum);
  POT_UNROLL
  for (int r = 0; r < kRows; ++r) {
    POT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      _mm512_storeu_si512(acc + r * PackedPotMatrix::kBlockOutputs + 16 * v,
                          sum[r][v]);
    }
  }
}

using DotRowsFunction = void(const uint8_t* levels, bool split, const int8_t* a,
                             int64_t a_stride, int64_t steps,
                             const uint8_t* next_codes, int32_t* acc);

// By the number of rows, with and without fetching.
constexpr DotRowsFunction* kFetching[kRowsInRegisters + 1] = {
    nullptr,          DotRows<1, true>, DotRows<2, true>, DotRows<3, true>,
    DotRows<4, true>, DotRows<5, true>, DotRows<6, true>};
constexpr DotRowsFunction* kPlain[kRowsInRegisters + 1] = {
    nullptr,           DotRows<1, false>, DotRows<2, false>, DotRows<3, false>,
    DotRows<4, false>, DotRows<5, false>, DotRows<6, false>};

POT_TARGET void Dot(const uint8_t* levels, const PotFormat& format,
                    const int8_t* a, int64_t a_stride, int num_rows,
                    int64_t steps, const uint8_t* next_codes, int32_t* acc) {
  const bool split = IsSplit(format);
  for (int row = 0; row < num_rows; row += kRowsInRegisters) {
    const int rows = std::min(kRowsInRegisters, num_rows - row);
    // Once is enough.
    const bool fetch = next_codes != nullptr && row == 0;
    (fetch ? kFetching : kPlain)[rows](
        levels, split, a + row * a_stride, a_stride, steps, next_codes,
        acc + row * PackedPotMatrix::kBlockOutputs);
  }
}

}  // namespace

void Avx512UnpackLevels(const uint8_t* codes, const PotFormat& format,
                        int64_t steps, uint8_t* levels) {
  Unpack(codes, format, steps, levels);
}

const PotTile kAvx512PotTile = {UnpackedStepBytes, Avx512UnpackLevels, Dot,
                                /*rows_per_call=*/24, /*min_rows=*/48};

}  // namespace pot

#endif  // defined(__x86_64__)
