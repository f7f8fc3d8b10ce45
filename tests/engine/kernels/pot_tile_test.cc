// Tiles over unpacked levels against the decode kernel's reference.
#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/kernel_table.h"
#include "engine/kernels/packed_pot_matrix.h"
#include "gtest/gtest.h"
#include "tests/engine/kernels/kernel_test_util.h"

namespace pot {
namespace {

class PotTileTest : public KernelTableTest {
 protected:
  // Rows of `a` times `steps` steps from step `first` of an unpacked block.
  void ExpectEqualsReference(const PotFormat& format,
                             const AlignedBuffer<uint8_t>& codes,
                             const std::vector<int8_t>& a, int64_t a_stride,
                             int rows, int64_t first, int64_t steps) const {
    const PotTile& tile = *table().tile;
    const int64_t all_steps =
        static_cast<int64_t>(codes.size()) / PackedPotMatrix::kStepBytes;
    const int64_t step_bytes = tile.step_bytes(format);
    ASSERT_LE(step_bytes, kMaxUnpackedStepBytes);
    AlignedBuffer<uint8_t> levels(all_steps * step_bytes);
    tile.unpack(codes.data(), format, all_steps, levels.data());
    std::vector<int32_t> acc(64 * rows + 1, 0x5a5a5a5a);
    tile.dot(levels.data() + first * step_bytes, format, a.data(), a_stride,
             rows, steps, codes.data(), acc.data());
    EXPECT_EQ(acc.back(), 0x5a5a5a5a);
    acc.pop_back();

    std::vector<int32_t> expected(64 * rows);
    for (int row = 0; row < rows; row += kMaxDotRows) {
      reference().pot_dot(codes.data() + first * PackedPotMatrix::kStepBytes,
                          format, a.data() + row * a_stride, a_stride,
                          std::min(kMaxDotRows, rows - row), steps,
                          expected.data() + row * 64);
    }
    EXPECT_EQ(acc, expected)
        << std::string(format.name) << ", rows " << rows << ", steps " << first
        << " + " << steps << " of " << all_steps;
  }
};
INSTANTIATE_TEST_SUITE_P(Tables, PotTileTest, EveryTable(), TableName);

AlignedBuffer<uint8_t> RandomCodes(const PotFormat& format, int64_t steps) {
  std::mt19937 random(3);
  AlignedBuffer<uint8_t> codes(steps * PackedPotMatrix::kStepBytes);
  const unsigned count = format.num_codes();
  for (size_t i = 0; i < codes.size(); ++i) {
    codes[i] = static_cast<uint8_t>(random() % count | (random() % count) << 4);
  }
  return codes;
}

std::vector<int8_t> RandomActivations(int64_t count) {
  std::mt19937 random(4);
  std::vector<int8_t> a(count);
  for (int8_t& x : a) x = static_cast<int8_t>(random() % 255) - 127;
  return a;
}

TEST_P(PotTileTest, EqualsReferenceForEveryShape) {
  if (table().tile == nullptr) return;
  for (const PotFormat& format : AllPotFormats()) {
    if (format.bits > 4) continue;
    for (const int64_t steps : {1, 2, 3, 4, 7, 8, 9, 12, 16, 20, 96}) {
      const AlignedBuffer<uint8_t> codes = RandomCodes(format, steps);
      // Rows that do not begin on any boundary.
      const int64_t stride = 8 * steps + 5;
      const std::vector<int8_t> a = RandomActivations(kMaxTileRows * stride);
      for (const int rows :
           {1, 2, 5, 6, 7, 15, 16, 17, 24, 31, 32, 33, 100, kMaxTileRows}) {
        ExpectEqualsReference(format, codes, a, stride, rows, 0, steps);
      }
      // A group in the middle: its neighbours must not leak in.
      if (steps >= 12) {
        ExpectEqualsReference(format, codes, a, stride, 18, 4, 4);
        ExpectEqualsReference(format, codes, a, stride, 33, 4, 8);
        ExpectEqualsReference(format, codes, a, stride, 7, 3, 1);
      }
    }
  }
}

// As for the decode kernels: what one bit less, or saturation, would spoil.
TEST_P(PotTileTest, DoesNotOverflowAtTheLongestRow) {
  if (table().tile == nullptr) return;
  constexpr int64_t kSteps = kMaxMatrixCols / 8;
  for (const char* name : {"pot4", "pot4-strict", "twohot4"}) {
    const PotFormat& format = *FindPotFormat(name).value();
    for (int code = 0; code < format.num_codes(); ++code) {
      AlignedBuffer<uint8_t> codes(kSteps * PackedPotMatrix::kStepBytes);
      std::fill_n(codes.data(), codes.size(),
                  static_cast<uint8_t>(code | code << 4));
      const PotTile& tile = *table().tile;
      AlignedBuffer<uint8_t> levels(kSteps * tile.step_bytes(format));
      tile.unpack(codes.data(), format, kSteps, levels.data());
      for (const int a : {-127, 127}) {
        const std::vector<int8_t> activations(8 * kSteps,
                                              static_cast<int8_t>(a));
        std::vector<int32_t> acc(64);
        tile.dot(levels.data(), format, activations.data(), 8 * kSteps, 1,
                 kSteps, nullptr, acc.data());
        EXPECT_THAT(acc, testing::Each(format.levels[code] * a *
                                       static_cast<int32_t>(kMaxMatrixCols)))
            << name;
      }
    }
  }
}

TEST_P(PotTileTest, SuitsItsCallers) {
  if (table().tile == nullptr) return;
  EXPECT_GE(table().tile->rows_per_call, 1);
  EXPECT_LE(table().tile->rows_per_call, kMaxTileRows);
  EXPECT_GE(table().tile->min_rows, 1);
}

}  // namespace
}  // namespace pot
