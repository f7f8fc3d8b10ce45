// AArch64 with the dot-product extension: levels by tbl, products by sdot,
// which adds four products of signed bytes to an int32 without saturation.
//
// Exact: a level is an int8 but for +128 (pot4-strict), which is split into
// 127 and a rest of 1, multiplied apart. Either way the products of one weight
// add up to |level| * |a| <= 128 * 127 with a single sign, so no partial sum
// exceeds 128 * 127 * 65536 = 1 065 353 216 < 2^31.
#if defined(__aarch64__)

#include <arm_neon.h>

#include <algorithm>
#include <limits>

#include "engine/kernels/kernel_sets.h"
#include "engine/kernels/packed_pot_matrix.h"

#define POT_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))

namespace pot {
namespace {

// Outputs in one vector of codes: four inputs each, twice.
constexpr int kVectorOutputs = 4;
constexpr int kBlockVectors = PackedPotMatrix::kBlockOutputs / kVectorOutputs;

struct Book {
  int8x16_t levels;
  int8x16_t rest;  // what the levels lack, when split
  bool split;
};

POT_TARGET inline Book MakeBook(const PotFormat& format) {
  int8_t levels[16];
  int8_t rest[16];
  bool split = false;
  for (int code = 0; code < 16; ++code) {
    const int32_t level = format.levels[code];
    const int32_t clamped =
        std::min<int32_t>(level, std::numeric_limits<int8_t>::max());
    levels[code] = static_cast<int8_t>(clamped);
    rest[code] = static_cast<int8_t>(level - clamped);
    split = split || level != clamped;
  }
  return {vld1q_s8(levels), vld1q_s8(rest), split};
}

// Outputs [0, 4 * kVectors) of `codes` for kRows rows.
template <bool kSplit, int kRows, int kVectors>
POT_TARGET inline void DotTile(const uint8_t* codes, const Book& book,
                               const int8_t* a, int64_t a_stride, int64_t steps,
                               int32_t* acc) {
  const uint8x16_t mask = vdupq_n_u8(15);
  int32x4_t sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v] = vdupq_n_s32(0);
  }
  for (int64_t step = 0; step < steps; ++step) {
    int8x8_t x[kRows];
    for (int r = 0; r < kRows; ++r) x[r] = vld1_s8(a + r * a_stride);
    for (int v = 0; v < kVectors; ++v) {
      const uint8x16_t bytes = vld1q_u8(codes + 16 * v);
      const uint8x16_t low = vandq_u8(bytes, mask);
      const uint8x16_t high = vshrq_n_u8(bytes, 4);
      const int8x16_t low_levels = vqtbl1q_s8(book.levels, low);
      const int8x16_t high_levels = vqtbl1q_s8(book.levels, high);
      for (int r = 0; r < kRows; ++r) {
        sum[r][v] = vdotq_lane_s32(sum[r][v], low_levels, x[r], 0);
        sum[r][v] = vdotq_lane_s32(sum[r][v], high_levels, x[r], 1);
      }
      if constexpr (kSplit) {
        const int8x16_t low_rest = vqtbl1q_s8(book.rest, low);
        const int8x16_t high_rest = vqtbl1q_s8(book.rest, high);
        for (int r = 0; r < kRows; ++r) {
          sum[r][v] = vdotq_lane_s32(sum[r][v], low_rest, x[r], 0);
          sum[r][v] = vdotq_lane_s32(sum[r][v], high_rest, x[r], 1);
        }
      }
    }
    codes += PackedPotMatrix::kStepBytes;
    a += PackedPotMatrix::kStepInputs;
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      vst1q_s32(acc + r * PackedPotMatrix::kBlockOutputs + kVectorOutputs * v,
                sum[r][v]);
    }
  }
}

// All 64 outputs, in tiles whose sums take 16 of the 32 registers.
template <bool kSplit, int kRows>
POT_TARGET void DotRows(const uint8_t* codes, const Book& book, const int8_t* a,
                        int64_t a_stride, int64_t steps, int32_t* acc) {
  constexpr int kVectors = kRows == 1 ? 16 : kRows == 2 ? 8 : 4;
  for (int v = 0; v < kBlockVectors; v += kVectors) {
    DotTile<kSplit, kRows, kVectors>(codes + 16 * v, book, a, a_stride, steps,
                                     acc + kVectorOutputs * v);
  }
}

template <bool kSplit>
POT_TARGET void Dot(const uint8_t* codes, const Book& book, const int8_t* a,
                    int64_t a_stride, int num_rows, int64_t steps,
                    int32_t* acc) {
  for (; num_rows >= 4; num_rows -= 4) {
    DotRows<kSplit, 4>(codes, book, a, a_stride, steps, acc);
    a += 4 * a_stride;
    acc += 4 * PackedPotMatrix::kBlockOutputs;
  }
  switch (num_rows) {
    case 1:
      return DotRows<kSplit, 1>(codes, book, a, a_stride, steps, acc);
    case 2:
      return DotRows<kSplit, 2>(codes, book, a, a_stride, steps, acc);
    case 3:
      return DotRows<kSplit, 3>(codes, book, a, a_stride, steps, acc);
    default:
      return;
  }
}

}  // namespace

POT_TARGET void NeonPotDot(const uint8_t* codes, const PotFormat& format,
                           const int8_t* a, int64_t a_stride, int num_rows,
                           int64_t steps, int32_t* acc) {
  const Book book = MakeBook(format);
  if (book.split) {
    Dot<true>(codes, book, a, a_stride, num_rows, steps, acc);
  } else {
    Dot<false>(codes, book, a, a_stride, num_rows, steps, acc);
  }
}

}  // namespace pot

#endif  // defined(__aarch64__)
