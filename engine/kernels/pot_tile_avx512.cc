// AVX-512 VNNI over unpacked levels: 6 rows times 64 outputs stay in registers.
//
// A step's 8 inputs are unpacked to 8 vectors: inputs 0-3 of outputs 0-15,
// 16-31, 32-47, 48-63, then inputs 4-7. A format that is split (see
// avx512_book.inc) has 8 more, of its negative levels.
#if defined(__x86_64__)

#include <cstring>

#include "engine/kernels/kernel_sets.h"
#include "engine/kernels/packed_pot_matrix.h"
#include "engine/kernels/pot_tile.h"
#include "engine/kernels/x86_intrinsics.h"

#define POT_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

namespace pot {
namespace {

#include "engine/kernels/avx512_book.inc"

constexpr int kRowsInRegisters = 6;
constexpr int kVectors = 4;  // of 16 outputs
constexpr int64_t kPlaneBytes =
    PackedPotMatrix::kStepInputs * PackedPotMatrix::kBlockOutputs;

bool IsSplit(const PotFormat& format) {
  for (int code = 0; code < format.num_codes(); ++code) {
    if (format.levels[code] > 127) return true;
  }
  return false;
}

int64_t StepBytes(const PotFormat& format) {
  return IsSplit(format) ? 2 * kPlaneBytes : kPlaneBytes;
}

POT_TARGET inline void UnpackStep(const uint8_t* codes, __m512i book,
                                  uint8_t* levels) {
  const __m512i mask = _mm512_set1_epi8(15);
  for (int v = 0; v < kVectors; ++v) {
    const __m512i bytes = _mm512_load_si512(codes + 64 * v);
    const __m512i low = _mm512_and_si512(bytes, mask);
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), mask);
    _mm512_store_si512(levels + 64 * v, _mm512_shuffle_epi8(book, low));
    _mm512_store_si512(levels + 64 * (kVectors + v),
                       _mm512_shuffle_epi8(book, high));
  }
}

POT_TARGET void Unpack(const uint8_t* codes, const PotFormat& format,
                       int64_t steps, uint8_t* levels) {
  const Book book = MakeBook(format);
  for (int64_t step = 0; step < steps; ++step) {
    UnpackStep(codes, book.levels, levels);
    levels += kPlaneBytes;
    if (book.split) {
      UnpackStep(codes, book.negative, levels);
      levels += kPlaneBytes;
    }
    codes += PackedPotMatrix::kStepBytes;
  }
}

// sum[r][v] += levels * a over `steps` steps that lie `step_bytes` apart.
template <int kRows>
POT_TARGET inline void Accumulate(const uint8_t* levels, int64_t step_bytes,
                                  const int8_t* a, int64_t a_stride,
                                  int64_t steps,
                                  __m512i (&sum)[kRows][kVectors]) {
  for (int64_t step = 0; step < steps; ++step) {
    for (int half = 0; half < 2; ++half) {
      __m512i level[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        level[v] = _mm512_load_si512(levels + 64 * (kVectors * half + v));
      }
      for (int r = 0; r < kRows; ++r) {
        const __m512i four = Broadcast4(a + r * a_stride + 4 * half);
        for (int v = 0; v < kVectors; ++v) {
          sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], level[v], four);
        }
      }
    }
    levels += step_bytes;
    a += PackedPotMatrix::kStepInputs;
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
  const int64_t step_bytes = split ? 2 * kPlaneBytes : kPlaneBytes;
  if (split) {
    // Magnitudes of the negative levels first, to be subtracted.
    Accumulate<kRows>(levels + kPlaneBytes, step_bytes, a, a_stride, steps,
                      sum);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = _mm512_sub_epi32(_mm512_setzero_si512(), sum[r][v]);
      }
    }
  }
  Accumulate<kRows>(levels, step_bytes, a, a_stride, steps, sum);
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

const PotTile kAvx512PotTile = {StepBytes, Unpack, Dot,
                                /*rows_per_call=*/24, /*min_rows=*/9};

}  // namespace pot

#endif  // defined(__x86_64__)
