// AVX-512 VNNI over unpacked levels: 6 rows times 64 outputs stay in registers.
//
#if defined(__x86_64__)

#include <cstring>

#include "engine/kernels/kernel_sets.h"
#include "engine/kernels/packed_pot_matrix.h"
#include "engine/kernels/pot_tile.h"
#include "engine/kernels/unpacked_levels.h"
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
// `stride` apart.
template <int kRows>
POT_TARGET inline void Accumulate(const uint8_t* levels, int64_t stride,
                                  const int8_t* a, int64_t a_stride,
                                  int64_t fours,
                                  __m512i (&sum)[kRows][kVectors]) {
  for (int64_t four = 0; four < fours; ++four) {
    __m512i level[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      level[v] = _mm512_load_si512(levels + 64 * v);
    }
    for (int r = 0; r < kRows; ++r) {
      const __m512i values = Broadcast4(a + r * a_stride);
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], level[v], values);
      }
    }
    levels += stride;
    a += 4;
  }
}

template <int kRows>
POT_TARGET void DotRows(const uint8_t* levels, bool split, const int8_t* a,
                        int64_t a_stride, int64_t steps, int32_t* acc) {
  __m512i sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    const int32_t start =
        split
            ? 0
            : -BiasSum(a + r * a_stride, PackedPotMatrix::kStepInputs * steps);
    for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_set1_epi32(start);
  }
  const int64_t stride = split ? 2 * kPlaneBytes : kPlaneBytes;
  if (split) {
    // Magnitudes of the negative levels first, to be subtracted.
    Accumulate<kRows>(levels + kPlaneBytes, stride, a, a_stride, 2 * steps,
                      sum);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = _mm512_sub_epi32(_mm512_setzero_si512(), sum[r][v]);
      }
    }
  }
  Accumulate<kRows>(levels, stride, a, a_stride, 2 * steps, sum);
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      _mm512_storeu_si512(acc + r * PackedPotMatrix::kBlockOutputs + 16 * v,
                          sum[r][v]);
    }
  }
}

POT_TARGET void Dot(const uint8_t* levels, const PotFormat& format,
                    const int8_t* a, int64_t a_stride, int num_rows,
                    int64_t steps, int32_t* acc) {
  using DotRowsFunction =
      void(const uint8_t*, bool, const int8_t*, int64_t, int64_t, int32_t*);
  static constexpr DotRowsFunction* kTails[kRowsInRegisters] = {
      nullptr, DotRows<1>, DotRows<2>, DotRows<3>, DotRows<4>, DotRows<5>};
  const bool split = IsSplit(format);
  int row = 0;
  for (; row + kRowsInRegisters <= num_rows; row += kRowsInRegisters) {
    DotRows<kRowsInRegisters>(levels, split, a + row * a_stride, a_stride,
                              steps,
                              acc + row * PackedPotMatrix::kBlockOutputs);
  }
  if (row < num_rows) {
    kTails[num_rows - row](levels, split, a + row * a_stride, a_stride, steps,
                           acc + row * PackedPotMatrix::kBlockOutputs);
  }
}

}  // namespace

void Avx512UnpackLevels(const uint8_t* codes, const PotFormat& format,
                        int64_t steps, uint8_t* levels) {
  Unpack(codes, format, steps, levels);
}

const PotTile kAvx512PotTile = {UnpackedStepBytes, Avx512UnpackLevels, Dot,
                                /*rows_per_call=*/24, /*min_rows=*/9};

}  // namespace pot

#endif  // defined(__x86_64__)
