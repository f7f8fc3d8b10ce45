#include "engine/quant/pot_quantizer.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "engine/base/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kGranularities[] = {"tensor", "row", "g32", "g64",
                                          "g128"};

QuantizeOptions Options(absl::string_view format, absl::string_view grain,
                        QuantizeMode mode = QuantizeMode::kNearest) {
  QuantizeOptions options;
  options.format = *FindPotFormat(format);
  options.granularity = *Granularity::Parse(grain);
  options.mode = mode;
  return options;
}

std::vector<float> Gaussian(int64_t count, float sigma) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal(0.0f, sigma);
  std::vector<float> weights(count);
  for (float& w : weights) w = normal(random);
  return weights;
}

std::vector<int32_t> LevelsUnder(const std::vector<float>& weights, float scale,
                                 const QuantizeOptions& options) {
  std::vector<PotCode> codes(weights.size());
  QuantizeGroup(weights, scale, options, absl::MakeSpan(codes));
  std::vector<int32_t> levels;
  for (const PotCode code : codes) {
    levels.push_back(options.format->levels[code]);
  }
  return levels;
}

void ExpectInvalid(const absl::StatusOr<PotMatrix>& result,
                   const std::string& text) {
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr(text));
}

TEST(PotQuantizerTest, ParsesWhatItPrints) {
  for (const auto mode : {QuantizeMode::kPaper, QuantizeMode::kNearest,
                          QuantizeMode::kPotPtq, QuantizeMode::kPotPtqStart}) {
    const auto parsed = ParseQuantizeMode(QuantizeModeName(mode));
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(*parsed, mode);
  }
  EXPECT_EQ(ParseQuantizeMode("Paper").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(PotQuantizerTest, EveryLevelOfEveryFormatIsItsOwnNearest) {
  for (const PotFormat& format : AllPotFormats()) {
    const QuantizeOptions options = Options(format.name, "row");
    for (const float scale : {1.0f, 0.03125f, -2.0f}) {
      std::vector<float> weights;
      std::vector<int32_t> levels;
      for (int code = 0; code < format.num_codes(); ++code) {
        weights.push_back(scale * static_cast<float>(format.levels[code]));
        levels.push_back(format.levels[code]);
      }
      EXPECT_EQ(LevelsUnder(weights, scale, options), levels) << format.name;
    }
  }
}

TEST(PotQuantizerTest, PotPtqIsThePapersFormulaWithoutAZero) {
  // E = clamp(round(log2(|W| / S)), 0, qmax) in double, away from halves.
  for (const auto& [name, qmax] :
       {std::pair("pot2-strict", 1), {"pot3-strict", 3}, {"pot4-strict", 7}}) {
    auto options = Options(name, "row", QuantizeMode::kPotPtq);
    const std::vector<float> weights = Gaussian(2000, 3.0f);
    for (const float scale : {0.01f, 0.3f, 1.0f}) {
      const auto levels = LevelsUnder(weights, scale, options);
      for (size_t i = 0; i < weights.size(); ++i) {
        const double e = std::log2(std::fabs(weights[i]) / scale);
        if (std::fabs(e - std::floor(e) - 0.5) < 1e-6) continue;
        const double level = std::ldexp(
            1.0, static_cast<int>(std::clamp(std::round(e), 0.0, qmax + 0.0)));
        EXPECT_EQ(levels[i], std::copysign(level, weights[i]))
            << name << " " << weights[i];
      }
    }
    // s0 = max|W| / 2^(qmax-1): at 2 bits every magnitude is then s0.
    options.mode = QuantizeMode::kPotPtqStart;
    const std::vector<float> group = {0.75f, -0.5f, 0.01f};
    EXPECT_EQ(ChooseScale(group, options), std::ldexp(0.75f, 1 - qmax));
  }
}

TEST(PotQuantizerTest, NearestTiesGoToTheSmallerLevelThenTheSmallerCode) {
  const auto pot4 = Options("pot4", "row");
  EXPECT_THAT(
      LevelsUnder({0.5f, -0.5f, 1.5f, -1.5f, 3.0f, -96.0f, 48.0f, 0.500001f,
                   1.500001f, -96.00001f, 96.0f, 1e9f, -1e9f, 0.0f, -0.0f},
                  1.0f, pot4),
      ElementsAre(0, 0, 1, -1, 2, -64, 32, 1, 2, -128, 64, 64, -128, 0, 0));
  // The longer arm changes sides with the scale.
  EXPECT_THAT(LevelsUnder({1e9f, -1e9f, 97.0f}, -1.0f, pot4),
              ElementsAre(-128, 64, -128));
  // Without a zero, 0 is as near to 1 as to -1; 1 has the smaller code.
  EXPECT_THAT(
      LevelsUnder({0.0f, -0.0f, -1e-30f}, 1.0f, Options("pot4-strict", "row")),
      ElementsAre(1, 1, -1));
  EXPECT_THAT(LevelsUnder({2.0f, -4.0f, 6.0f, 8.5f, 12.0f, 17.0f, 24.0f, 99.0f},
                          1.0f, Options("twohot4", "row")),
              ElementsAre(1, -3, 5, 7, 10, 14, 20, 28));
}

TEST(PotQuantizerTest, PaperRoundsLinearlyFirstAndClamps) {
  const auto pot4 = Options("pot4", "row", QuantizeMode::kPaper);
  // 2.6 -> 3 -> 4 (log2 3 = 1.58); 5 -> 4; 6 -> 8; never 128 or -128.
  EXPECT_THAT(LevelsUnder({0.5f, 0.51f, 1.5f, 2.5f, 2.6f, 5.0f, 6.0f, 90.0f,
                           91.0f, 1e9f, -1e9f, -0.4f},
                          1.0f, pot4),
              ElementsAre(0, 1, 2, 2, 4, 4, 8, 64, 64, 64, -64, 0));
}

TEST(PotQuantizerTest, PaperScaleIsTheMaximumOverTheTopLevelOrEps) {
  auto options = Options("pot4", "tensor", QuantizeMode::kPaper);
  const std::vector<float> weights = {0.25f, -1.5f, 0.75f};
  EXPECT_EQ(ChooseScale(weights, options), 1.5f / 64);
  options.paper_eps = 0x1p-5f;
  EXPECT_EQ(ChooseScale(weights, options), 0x1p-5f);
  EXPECT_EQ(ChooseScale({}, options), 0x1p-5f);
}

TEST(PotQuantizerTest, ZeroWeightsStayZeroInEveryFormat) {
  const std::vector<float> weights(3 * 70, 0.0f);
  for (const PotFormat& format : AllPotFormats()) {
    for (const char* grain : kGranularities) {
      const auto result =
          QuantizePot(weights, 3, 70, Options(format.name, grain));
      ASSERT_TRUE(result.ok()) << result.status();
      std::vector<float> row(70);
      for (int64_t n = 0; n < 3; ++n) {
        result->DequantizeRow(n, absl::MakeSpan(row));
        EXPECT_EQ(row, std::vector<float>(70, 0.0f)) << format.name;
      }
      EXPECT_EQ(NormalizedSquaredError(weights, *result), 0.0);
    }
  }
  const auto paper =
      QuantizePot(weights, 3, 70, Options("pot4", "row", QuantizeMode::kPaper));
  ASSERT_TRUE(paper.ok());
  EXPECT_EQ(paper->Scale(0, 0), 0.0f);
}

TEST(PotQuantizerTest, MirroredWeightsGetMirroredScalesAndEqualErrors) {
  // Negating everything negates the scale in a lopsided book, whose arms
  // differ, unless the first of two equal scales is taken.
  std::vector<float> weights = Gaussian(256, 1.0f);
  weights[5] = 9.0f;
  std::vector<float> mirrored = weights;
  for (float& w : mirrored) w = -w;
  const auto options = Options("pot3", "row");
  const float scale = ChooseScale(weights, options);
  EXPECT_LT(scale, 0.0f);  // the outlier is positive, the long arm negative
  EXPECT_EQ(ChooseScale(mirrored, options), -scale);
}

TEST(PotQuantizerTest, ExtremeMagnitudesStayFinite) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  for (const PotFormat& format : AllPotFormats()) {
    for (const char* grain : kGranularities) {
      for (const float unit : {kMaxWeight, 1e-37f, tiny, 1e-30f}) {
        std::vector<float> weights = Gaussian(4 * 65, 0.2f);
        for (float& w : weights) {
          w = std::min(std::max(w, -1.0f), 1.0f) * unit;
        }
        weights[7] = unit;
        const auto options = Options(format.name, grain);
        const auto result = QuantizePot(weights, 4, 65, options);
        ASSERT_TRUE(result.ok()) << result.status();
        std::vector<float> row(65);
        for (int64_t n = 0; n < 4; ++n) {
          result->DequantizeRow(n, absl::MakeSpan(row));
          for (int64_t k = 0; k < 65; ++k) {
            ASSERT_TRUE(std::isfinite(row[k]));
            // With w between the levels, the nearest is no farther than 0
            // or the smallest level: at most 2.7 / 2 times the maximum, or
            // the smallest scale.
            ASSERT_LE(std::fabs(row[k] - weights[n * 65 + k]),
                      1.36 * unit + 0x1p-126)
                << format.name << " " << grain << " " << unit;
          }
        }
      }
    }
  }
}

TEST(PotQuantizerTest, ThreadsDoNotChangeTheResult) {
  // More than one slice of the per-tensor search, with a short last one.
  const int64_t rows = 100, cols = 700;
  const std::vector<float> weights = Gaussian(rows * cols, 0.02f);
  ThreadPool pool(3);
  for (const char* grain : {"tensor", "row", "g128"}) {
    for (const char* format : {"pot2", "pot3-strict"}) {
      const auto options = Options(format, grain);
      const auto alone = QuantizePot(weights, rows, cols, options);
      const auto together = QuantizePot(weights, rows, cols, options, &pool);
      ASSERT_TRUE(alone.ok() && together.ok());
      EXPECT_EQ(alone->scales(), together->scales());
      EXPECT_EQ(alone->packed_codes(), together->packed_codes());
    }
  }
}

TEST(PotQuantizerTest, FinerScalesNeverHurtGaussianWeights) {
  const int64_t rows = 8, cols = 768;
  const std::vector<float> weights = Gaussian(rows * cols, 0.02f);
  for (const PotFormat& format : AllPotFormats()) {
    double last = std::numeric_limits<double>::infinity();
    for (const char* grain : {"tensor", "row", "g128", "g64", "g32"}) {
      const auto result =
          QuantizePot(weights, rows, cols, Options(format.name, grain));
      ASSERT_TRUE(result.ok());
      const double error = NormalizedSquaredError(weights, *result);
      EXPECT_LT(error, last) << format.name << " " << grain;
      last = error;
    }
  }
}

TEST(PotQuantizerTest, RefusesWeightsThatAreNotFinite) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const float bad :
       {std::nanf(""), -std::nanf(""), inf, -inf, 2 * kMaxWeight}) {
    for (const char* mode : {"paper", "nearest"}) {
      std::vector<float> weights(20, 1.0f);
      weights[13] = bad;
      ExpectInvalid(
          QuantizePot(weights, 4, 5,
                      Options("pot4", "row", *ParseQuantizeMode(mode))),
          "row 2, column 3");
    }
  }
}

TEST(PotQuantizerTest, RefusesBadOptions) {
  const std::vector<float> weights(4, 1.0f);
  ExpectInvalid(QuantizePot(weights, 2, 2, QuantizeOptions{}), "format");
  const PotFormat copy = **FindPotFormat("pot4");
  auto options = Options("pot4", "row");
  options.format = &copy;
  ExpectInvalid(QuantizePot(weights, 2, 2, options), "known formats");
  for (const char* format :
       {"pot2-strict", "pot3-strict", "pot4-strict", "twohot4"}) {
    ExpectInvalid(QuantizePot(weights, 2, 2,
                              Options(format, "row", QuantizeMode::kPaper)),
                  format);
  }
  for (const float eps : {-1.0f, std::nanf(""), 2 * kMaxWeight,
                          std::numeric_limits<float>::infinity()}) {
    options = Options("pot4", "row", QuantizeMode::kPaper);
    options.paper_eps = eps;
    ExpectInvalid(QuantizePot(weights, 2, 2, options), "eps");
  }
}

TEST(PotQuantizerTest, RefusesHostileShapes) {
  const std::vector<float> weights(4, 1.0f);
  const auto options = Options("pot4", "row");
  const int64_t huge = std::numeric_limits<int64_t>::max();
  for (const int64_t bad : {int64_t{0}, int64_t{-2}, huge, -huge - 1}) {
    ExpectInvalid(QuantizePot(weights, bad, 2, options), "rows");
    ExpectInvalid(QuantizePot(weights, 2, bad, options), "columns");
  }
  ExpectInvalid(QuantizePot(weights, 2, 3, options), "4 weights");
  ExpectInvalid(QuantizePot({}, 2, 2, options), "0 weights");
  ExpectInvalid(QuantizePot(weights, 1, kMaxMatrixCols + 1, options),
                "1 to 65536");
}

}  // namespace
}  // namespace pot
