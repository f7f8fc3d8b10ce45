// Scales of groups that are powers of two times one float of the row.
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "engine/quant/pot_quantizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using testing::HasSubstr;

QuantizeOptions Options(absl::string_view format, absl::string_view grain) {
  QuantizeOptions options;
  options.format = *FindPotFormat(format);
  options.granularity = *Granularity::Parse(grain);
  return options;
}

// Groups of widely different spreads, one of them of zeros.
std::vector<float> Weights(int64_t rows, int64_t cols) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> weights(rows * cols);
  for (int64_t i = 0; i < rows * cols; ++i) {
    const int64_t group = i % cols / 32;
    weights[i] = group == 2 ? 0.0f
                            : normal(random) *
                                  std::exp2(static_cast<float>(group % 5) - 6);
  }
  return weights;
}

TEST(PowerOfTwoScalesTest, LoseLessThanARowsAndLittleMoreThanFloats) {
  constexpr int64_t kRows = 8, kCols = 330;
  const std::vector<float> weights = Weights(kRows, kCols);
  for (const PotFormat& format : AllPotFormats()) {
    SCOPED_TRACE(std::string(format.name));
    const auto lost = [&](const char* grain) {
      return NormalizedSquaredError(
          weights,
          QuantizePot(weights, kRows, kCols, Options(format.name, grain))
              .value());
    };
    const double row = lost("row"), floats = lost("g32"),
                 powers = lost("g32p2");
    // Where levels span 2^15 and more, groups gain nothing over rows.
    EXPECT_LT(powers, 1.001 * row);
    // Steps of an octave instead of 7 %: between 1 and 1.5 times the error.
    EXPECT_GE(powers, 0.99 * floats);
    EXPECT_LT(powers, 1.5 * floats);
  }
}

// No other power for a group, given the row's scale, loses less.
TEST(PowerOfTwoScalesTest, EveryGroupHasItsBestPower) {
  constexpr int64_t kRows = 3, kCols = 330, kGroups = 11;
  const std::vector<float> weights = Weights(kRows, kCols);
  for (const char* name : {"pot4", "pot3", "twohot4", "pot4-strict"}) {
    const QuantizeOptions options = Options(name, "g32p2");
    const PotMatrix matrix =
        QuantizePot(weights, kRows, kCols, options).value();
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t g = 0; g < kGroups; ++g) {
        const auto group = absl::MakeConstSpan(weights).subspan(
            row * kCols + 32 * g, g + 1 < kGroups ? 32 : 10);
        const auto error = [&](float scale) {
          std::vector<PotCode> codes(group.size());
          QuantizeGroup(group, scale, options, absl::MakeSpan(codes));
          double sum = 0;
          for (size_t i = 0; i < codes.size(); ++i) {
            const double e =
                group[i] - scale * options.format->levels[codes[i]];
            sum += e * e;
          }
          return sum;
        };
        const double chosen = error(matrix.Scale(row, g));
        for (int octave = 0; octave < 8; ++octave) {
          for (const float sign : {1.0f, -1.0f}) {
            if (octave == 7 && sign > 0) continue;
            const float scale = sign * std::exp2(static_cast<float>(octave)) *
                                matrix.scales()[row];
            // Floats may round a weight at a threshold either way.
            EXPECT_LE(chosen, error(scale) * (1 + 1e-4))
                << name << " row " << row << ", group " << g << ", " << sign
                << " * 2^" << octave;
          }
        }
        if (g == 2) {
          EXPECT_EQ(chosen, 0);
        }
      }
    }
  }
}

TEST(PowerOfTwoScalesTest, ZerosAndOneWeight) {
  std::vector<float> weights(2 * 64, 0.0f);
  weights[70] = -3.5f;
  const PotMatrix matrix =
      QuantizePot(weights, 2, 64, Options("pot4", "g32p2")).value();
  std::vector<float> row(64);
  matrix.DequantizeRow(0, absl::MakeSpan(row));
  EXPECT_THAT(row, testing::Each(0.0f));
  matrix.DequantizeRow(1, absl::MakeSpan(row));
  // A scale is at most 3.6 % from the one that hits it.
  EXPECT_NEAR(row[6], -3.5f, 3.5f * 0.036f);
}

TEST(PowerOfTwoScalesTest, AreForRoundingToNearestAndForGroups) {
  QuantizeOptions options = Options("pot4", "g64p2");
  options.mode = QuantizeMode::kPaper;
  const std::vector<float> weights(64, 1.0f);
  const auto paper = QuantizePot(weights, 1, 64, options);
  EXPECT_THAT(std::string(paper.status().message()), HasSubstr("g64p2"));
  options = Options("pot4", "row");
  options.granularity.power_of_two = true;
  const auto row = QuantizePot(weights, 1, 64, options);
  EXPECT_THAT(std::string(row.status().message()), HasSubstr("groups alone"));
}

}  // namespace
}  // namespace pot
