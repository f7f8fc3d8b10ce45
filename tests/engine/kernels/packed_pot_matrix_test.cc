#include "engine/kernels/packed_pot_matrix.h"

#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/kernels/kernel_test_util.h"

namespace pot {
namespace {

// The code of (row, k), read from the layout as its header describes it.
int CodeByTheBook(const PackedPotMatrix& packed, int64_t row, int64_t k) {
  const uint8_t* block = packed.BlockCodes(row / 64, 0);
  if (packed.wide()) return block[64 * k + row % 64];
  const uint8_t byte = block[k / 8 * 256 + 4 * (row % 64) + k % 4];
  return k % 8 < 4 ? byte & 15 : byte >> 4;
}

TEST(PackedPotMatrix, HoldsEveryCodeScaleAndLevelSum) {
  for (const PotFormat& format : AllPotFormats()) {
    for (const Granularity& granularity : AllGranularities()) {
      for (const int64_t rows : {1, 63, 64, 65, 130}) {
        for (const int64_t cols : {1, 7, 8, 9, 33, 100}) {
          SCOPED_TRACE(testing::Message() << std::string(format.name) << " "
                                          << granularity.ToString() << " "
                                          << rows << " x " << cols);
          const PotMatrix matrix =
              RandomMatrix(format, rows, cols, granularity, 7);
          const PackedPotMatrix packed(matrix);
          ASSERT_EQ(packed.rows(), rows);
          ASSERT_EQ(packed.cols(), cols);
          ASSERT_EQ(packed.num_blocks(), (rows + 63) / 64);
          ASSERT_EQ(packed.padded_cols(), (cols + 7) / 8 * 8);
          std::vector<PotCode> codes(cols);
          for (int64_t row = 0; row < rows; ++row) {
            matrix.UnpackRow(row, absl::MakeSpan(codes));
            std::vector<int64_t> sums(packed.groups_per_row());
            for (int64_t k = 0; k < cols; ++k) {
              ASSERT_EQ(CodeByTheBook(packed, row, k), codes[k]);
              sums[k / packed.group_size()] += format.levels[codes[k]];
            }
            for (int64_t g = 0; g < packed.groups_per_row(); ++g) {
              const int64_t block = row / 64, n = row % 64;
              ASSERT_EQ(packed.Scales(block, g)[n], matrix.Scale(row, g));
              ASSERT_EQ(packed.wide() ? packed.WideLevelSums(block, g)[n]
                                      : packed.LevelSums(block, g)[n],
                        sums[g]);
            }
          }
          // Padded inputs have code 0.
          for (int64_t k = cols; k < packed.padded_cols(); ++k) {
            ASSERT_EQ(CodeByTheBook(packed, rows - 1, k), 0);
          }
        }
      }
    }
  }
}

TEST(PackedPotMatrix, DequantizesAsTheMatrixDoes) {
  for (const PotFormat& format : AllPotFormats()) {
    for (const Granularity& granularity : AllGranularities()) {
      const PotMatrix matrix = RandomMatrix(format, 67, 101, granularity, 11);
      const PackedPotMatrix packed(matrix);
      std::vector<float> expected(101), actual(101);
      for (const int64_t row : {0, 5, 63, 64, 66}) {
        matrix.DequantizeRow(row, absl::MakeSpan(expected));
        packed.DequantizeRow(row, absl::MakeSpan(actual));
        EXPECT_EQ(BitsOf(actual), BitsOf(expected)) << row;
      }
    }
  }
}

TEST(PackedPotMatrix, FourBitsTakeHalfAByte) {
  const PotFormat* format = FindPotFormat("pot4").value();
  const PackedPotMatrix packed(
      RandomMatrix(*format, 128, 768, {Granularity::Kind::kRow, 0}, 3));
  // Codes, then a float scale and an int32 level sum per row.
  EXPECT_EQ(packed.resident_bytes(), 128 * 768 / 2 + 128 * (4 + 4));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(packed.BlockCodes(1, 8)) % 64, 0u);
}

}  // namespace
}  // namespace pot
