#include "engine/quant/pot_matrix.h"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using ::testing::HasSubstr;

const PotFormat* Format(absl::string_view name) { return *FindPotFormat(name); }
Granularity Grain(absl::string_view text) { return *Granularity::Parse(text); }

void ExpectInvalid(const absl::Status& status, const std::string& text) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(text));
}

TEST(PotMatrixTest, DequantizesEveryFormatAndGranularity) {
  std::mt19937 random(3);
  const int64_t rows = 5, cols = 131;
  for (const PotFormat& format : AllPotFormats()) {
    for (const char* grain : {"tensor", "row", "g32", "g64", "g128"}) {
      const Granularity granularity = Grain(grain);
      const int64_t groups = granularity.GroupsPerRow(cols);
      std::vector<PotCode> codes(rows * cols);
      for (PotCode& code : codes) code = random() % format.num_codes();
      std::vector<float> scales(grain == std::string("tensor") ? 1
                                                               : rows * groups);
      for (float& scale : scales) scale = 0.01f * (1 + random() % 100) - 0.5f;
      const auto matrix =
          PotMatrix::FromCodes(&format, rows, cols, granularity, codes, scales);
      ASSERT_TRUE(matrix.ok()) << matrix.status();
      EXPECT_EQ(matrix->groups_per_row(), groups);
      std::vector<PotCode> row_codes(cols);
      std::vector<float> weights(cols);
      for (int64_t n = 0; n < rows; ++n) {
        matrix->UnpackRow(n, absl::MakeSpan(row_codes));
        matrix->DequantizeRow(n, absl::MakeSpan(weights));
        for (int64_t k = 0; k < cols; ++k) {
          ASSERT_EQ(row_codes[k], codes[n * cols + k]);
          const int64_t group = k / granularity.GroupSize(cols);
          const float scale =
              scales.size() == 1 ? scales[0] : scales[n * groups + group];
          ASSERT_EQ(matrix->Scale(n, group), scale);
          ASSERT_EQ(weights[k],
                    scale * static_cast<float>(format.levels[row_codes[k]]));
        }
      }
    }
  }
}

TEST(PotMatrixTest, ReadsTheDocumentedBytes) {
  // Codes 1, 8, 15 of pot4: levels 1, -128, -64.
  const std::vector<uint8_t> bytes = {0x81, 0x0f};
  const std::vector<float> scales = {0.5f};
  const auto matrix = PotMatrix::Create(Format("pot4"), 1, 3, Grain("row"),
                                        bytes, scales, nullptr);
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  std::vector<float> weights(3);
  matrix->DequantizeRow(0, absl::MakeSpan(weights));
  EXPECT_THAT(weights, testing::ElementsAre(0.5f, -64.0f, -32.0f));
  // Views, not copies.
  EXPECT_EQ(matrix->packed_codes().data(), bytes.data());
  EXPECT_EQ(matrix->scales().data(), scales.data());
}

TEST(PotMatrixTest, OutlivesWhateverItWasMadeOf) {
  absl::StatusOr<PotMatrix> copy = absl::InternalError("unset");
  {
    copy = PotMatrix::FromCodes(Format("pot3"), 1, 2, Grain("tensor"),
                                std::vector<PotCode>{3, 4}, {2.0f});
  }
  ASSERT_TRUE(copy.ok());
  const PotMatrix second = *copy;
  copy = absl::InternalError("gone");
  std::vector<float> weights(2);
  second.DequantizeRow(0, absl::MakeSpan(weights));
  EXPECT_THAT(weights, testing::ElementsAre(8.0f, -16.0f));
}

TEST(PotMatrixTest, RefusesShapesOutsideTheLimits) {
  const PotFormat* pot4 = Format("pot4");
  const int64_t huge = std::numeric_limits<int64_t>::max();
  const std::vector<uint8_t> bytes(8);
  const std::vector<float> scales(4);
  for (const int64_t rows : {int64_t{0}, int64_t{-1}, kMaxMatrixRows + 1, huge,
                             std::numeric_limits<int64_t>::min()}) {
    ExpectInvalid(
        PotMatrix::Create(pot4, rows, 2, Grain("row"), bytes, scales, nullptr)
            .status(),
        "1 to 16777216");
    EXPECT_FALSE(
        PotMatrix::FromCodes(pot4, rows, 2, Grain("row"), bytes, scales).ok());
  }
  for (const int64_t cols : {int64_t{0}, int64_t{-7}, kMaxMatrixCols + 1, huge,
                             std::numeric_limits<int64_t>::min()}) {
    ExpectInvalid(
        PotMatrix::Create(pot4, 1, cols, Grain("row"), bytes, scales, nullptr)
            .status(),
        "1 to 65536");
    EXPECT_FALSE(
        PotMatrix::FromCodes(pot4, 1, cols, Grain("row"), bytes, scales).ok());
  }
  ExpectInvalid(
      PotMatrix::Create(nullptr, 1, 2, Grain("row"), bytes, scales, nullptr)
          .status(),
      "format");
  for (const Granularity bad : {Granularity{Granularity::Kind::kGroup, 0},
                                Granularity{Granularity::Kind::kGroup, -32},
                                Granularity{Granularity::Kind::kGroup, 48},
                                Granularity{Granularity::Kind::kRow, 32}}) {
    ExpectInvalid(
        PotMatrix::Create(pot4, 1, 2, bad, bytes, scales, nullptr).status(),
        "group size");
  }
}

TEST(PotMatrixTest, RefusesMismatchedSizes) {
  const PotFormat* pot3 = Format("pot3");
  // 2 rows of 5 codes of 3 bits: 2 bytes each.
  for (const size_t size : {0, 3, 5}) {
    ExpectInvalid(
        PotMatrix::Create(pot3, 2, 5, Grain("row"), std::vector<uint8_t>(size),
                          std::vector<float>(2), nullptr)
            .status(),
        "take 4");
  }
  const std::vector<uint8_t> bytes(4);
  for (const size_t size : {0, 1, 3}) {
    ExpectInvalid(PotMatrix::Create(pot3, 2, 5, Grain("row"), bytes,
                                    std::vector<float>(size), nullptr)
                      .status(),
                  "needs 2");
  }
  ExpectInvalid(PotMatrix::Create(pot3, 2, 5, Grain("tensor"), bytes,
                                  std::vector<float>(2), nullptr)
                    .status(),
                "needs 1");
  ExpectInvalid(PotMatrix::FromCodes(pot3, 2, 5, Grain("row"),
                                     std::vector<PotCode>(9), {1, 1})
                    .status(),
                "9 codes");
  ExpectInvalid(PotMatrix::FromCodes(pot3, 2, 2, Grain("row"),
                                     std::vector<PotCode>{0, 7, 8, 0}, {1, 1})
                    .status(),
                "code 8 at row 1, column 0");
}

TEST(PotMatrixTest, RefusesPaddingBitsThatAreSet) {
  const PotFormat* pot3 = Format("pot3");
  std::vector<uint8_t> bytes(4);
  const std::vector<float> scales(2);
  bytes[3] = 0x7f;  // 15 bits in use, the 16th free
  EXPECT_TRUE(
      PotMatrix::Create(pot3, 2, 5, Grain("row"), bytes, scales, nullptr).ok());
  bytes[3] = 0x80;
  ExpectInvalid(
      PotMatrix::Create(pot3, 2, 5, Grain("row"), bytes, scales, nullptr)
          .status(),
      "row 1");
}

TEST(PotMatrixTest, RefusesScalesThatMakeAWeightInfinite) {
  const std::vector<uint8_t> bytes(1);
  const float inf = std::numeric_limits<float>::infinity();
  const float max = std::numeric_limits<float>::max();
  for (const float bad : {std::nanf(""), inf, -inf, max, -max, max / 127}) {
    const std::vector<float> scales = {bad};
    ExpectInvalid(PotMatrix::Create(Format("pot4"), 1, 2, Grain("row"), bytes,
                                    scales, nullptr)
                      .status(),
                  "scale 0");
  }
  for (const float good : {0.0f, -1.0f, 1e-45f, -max / 128}) {
    const std::vector<float> scales = {good};
    EXPECT_TRUE(PotMatrix::Create(Format("pot4"), 1, 2, Grain("row"), bytes,
                                  scales, nullptr)
                    .ok())
        << good;
  }
}

// The bounds of pot_matrix.h, by adding up the worst row there can be.
TEST(PotMatrixTest, ExtremeSumsFitTheirAccumulators) {
  for (const PotFormat& format : AllPotFormats()) {
    int64_t low = 0, high = 0;  // the extremes of sum level * a
    int64_t biased_high = 0;    // of sum (level + 128) * |a|
    int64_t most_positive = 0, most_negative = 0, top_biased = 0;
    for (int code = 0; code < format.num_codes(); ++code) {
      const int64_t level = format.levels[code];
      for (const int64_t a : {int64_t{-127}, int64_t{127}}) {
        most_positive = std::max(most_positive, level * a);
        most_negative = std::min(most_negative, level * a);
      }
      top_biased = std::max(top_biased, (level + 128) * 127);
    }
    for (int64_t k = 0; k < kMaxMatrixCols; ++k) {
      high += most_positive;
      low += most_negative;
      biased_high += top_biased;
    }
    if (format.bits <= 4) {
      EXPECT_LE(high, std::numeric_limits<int32_t>::max()) << format.name;
      EXPECT_GE(low, std::numeric_limits<int32_t>::min()) << format.name;
      EXPECT_LE(biased_high, std::numeric_limits<int32_t>::max())
          << format.name;
    } else {
      EXPECT_LE(high, int64_t{1} << 54) << format.name;
      EXPECT_GE(low, -(int64_t{1} << 54)) << format.name;
    }
  }
}

}  // namespace
}  // namespace pot
