#include "engine/quant/outliers.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "engine/quant/pot_quantizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

template <typename Result>
void ExpectInvalid(const Result& result, const std::string& text) {
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr(text));
}

// Heavier tails than a Gaussian's, as weights of models have.
std::vector<float> HeavyTailed(int64_t count) {
  std::mt19937 random(3);
  std::student_t_distribution<float> distribution(4);
  std::vector<float> weights(count);
  for (float& w : weights) w = 0.05f * distribution(random);
  return weights;
}

QuantizeOptions Options(const char* format, double outliers) {
  QuantizeOptions options;
  options.format = FindPotFormat(format).value();
  options.outliers = outliers;
  return options;
}

TEST(TakeOutliersTest, TakesTheLargestAndOfEqualsTheFirst) {
  std::vector<float> weights(100, 0.5f);
  weights[7] = -9;
  weights[3] = 2;
  weights[90] = -0.25f;
  const auto taken = TakeOutliers(0.049, absl::MakeSpan(weights));
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_THAT(taken->positions, ElementsAre(0, 1, 3, 7));
  EXPECT_THAT(taken->weights, ElementsAre(0.5f, 0.5f, 2, -9));
  EXPECT_THAT(absl::MakeSpan(weights).first(9),
              ElementsAre(0, 0, 0.5f, 0, 0.5f, 0.5f, 0.5f, 0, 0.5f));
  EXPECT_EQ(weights[90], -0.25f);
}

TEST(TakeOutliersTest, RefusesSharesAndWeightsOutsideItsLimits) {
  std::vector<float> weights(100, 1.0f);
  ExpectInvalid(TakeOutliers(0.051, absl::MakeSpan(weights)), "not 5.1 %");
  ExpectInvalid(TakeOutliers(-0.001, absl::MakeSpan(weights)), "not -0.1 %");
  ExpectInvalid(TakeOutliers(NAN, absl::MakeSpan(weights)), "not nan %");
  weights[5] = NAN;
  ExpectInvalid(TakeOutliers(0.01, absl::MakeSpan(weights)), "weight 5 is nan");
}

TEST(AddOutliersTest, OutliersAreExactToAStepAndTheRestIsLeft) {
  constexpr int64_t kRows = 50, kCols = 200;
  const std::vector<float> weights = HeavyTailed(kRows * kCols);
  for (const PotFormat& format : AllPotFormats()) {
    SCOPED_TRACE(std::string(format.name));
    std::vector<float> others = weights;
    const auto taken = TakeOutliers(0.01, absl::MakeSpan(others));
    ASSERT_TRUE(taken.ok()) << taken.status();
    const auto dense = QuantizePot(
        others, kRows, kCols, Options(std::string(format.name).c_str(), 0));
    const auto sparse = QuantizePot(
        weights, kRows, kCols, Options(std::string(format.name).c_str(), 0.01));
    ASSERT_TRUE(dense.ok() && sparse.ok()) << sparse.status();
    EXPECT_EQ(sparse->packed_codes(), dense->packed_codes());
    EXPECT_EQ(sparse->scales(), dense->scales());
    const OutlierView& outliers = sparse->outliers();
    ASSERT_EQ(outliers.size(), 100);
    EXPECT_EQ(outliers.positions, absl::MakeConstSpan(taken->positions));
    std::vector<float> row(kCols), dense_row(kCols);
    size_t next = 0;
    for (int64_t n = 0; n < kRows; ++n) {
      sparse->DequantizeRow(n, absl::MakeSpan(row));
      dense->DequantizeRow(n, absl::MakeSpan(dense_row));
      for (int64_t k = 0; k < kCols; ++k) {
        if (next == 100 || taken->positions[next] != n * kCols + k) {
          EXPECT_EQ(row[k], dense_row[k]);
          continue;
        }
        // Half a step, and two roundings of a float.
        EXPECT_NEAR(row[k], taken->weights[next],
                    0.5 * outliers.scale + 2 * 0x1p-24 * std::fabs(row[k]));
        ++next;
      }
    }
  }
}

TEST(AddOutliersTest, ARowOfOutliersStaysWithinItsSum) {
  constexpr int64_t kCols = 4000;
  std::vector<float> weights(2 * kCols, 0.0f);
  for (int64_t k = 0; k < 400; ++k) weights[k] = k % 2 == 0 ? 1.0f : -1.0f;
  const auto matrix = QuantizePot(weights, 2, kCols, Options("pot4", 0.05));
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  int64_t sum = 0;
  for (const int16_t value : matrix->outliers().values) {
    sum += std::abs(int{value});
  }
  EXPECT_LE(sum, kMaxOutlierSum);
  EXPECT_GE(sum, kMaxOutlierSum - 1000);
  std::vector<float> row(kCols);
  matrix->DequantizeRow(0, absl::MakeSpan(row));
  EXPECT_NEAR(row[0], 1.0f, matrix->outliers().scale / 2 + 0x1p-23);
}

TEST(AddOutliersTest, ZerosGiveOutliersOfZero) {
  const std::vector<float> weights(400, 0.0f);
  const auto matrix = QuantizePot(weights, 4, 100, Options("pot4", 0.01));
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_THAT(matrix->outliers().values, ElementsAre(0, 0, 0, 0));
}

TEST(WithOutliersTest, RefusesWhatTheProductsCouldNotHold) {
  const std::vector<float> weights = HeavyTailed(2 * 300);
  const PotMatrix dense =
      QuantizePot(weights, 2, 300, Options("pot4", 0)).value();
  std::vector<uint32_t> positions(257);
  for (size_t i = 0; i < 257; ++i) positions[i] = i;
  std::vector<int16_t> values(257, -32768);
  const auto with = [&](size_t count, float scale) {
    const OutlierView view{scale, absl::MakeConstSpan(positions).first(count),
                           absl::MakeConstSpan(values).first(count)};
    return dense.WithOutliers(view, nullptr);
  };
  EXPECT_TRUE(with(256, 1).ok());
  ExpectInvalid(with(257, 1), "row 0 have a sum of more than 8388608");
  ExpectInvalid(with(256, 0x1p81f), "scale of the outliers");
  values.pop_back();
  ExpectInvalid(dense.WithOutliers({1, positions, values}, nullptr),
                "256 values of 257 outliers");
}

}  // namespace
}  // namespace pot
