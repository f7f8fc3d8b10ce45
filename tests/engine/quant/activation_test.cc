#include "engine/quant/activation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/engine/quant/golden_file.h"

namespace pot {
namespace {

constexpr ActivationMode kModes[] = {ActivationMode::kAffine,
                                     ActivationMode::kSymmetric};
constexpr float kFloatMax = std::numeric_limits<float>::max();
constexpr float kFloatMin = std::numeric_limits<float>::min();

struct Quantized {
  ActivationScale scale;
  std::vector<int8_t> a;
};

Quantized Quantize(const std::vector<float>& x, ActivationMode mode) {
  // A guard byte on each side of what may be written.
  std::vector<int8_t> a(x.size() + 2, 99);
  Quantized result;
  result.scale = QuantizeActivation(x.data(), x.size(), mode, a.data() + 1);
  EXPECT_EQ(a.front(), 99);
  EXPECT_EQ(a.back(), 99);
  result.a.assign(a.begin() + 1, a.end() - 1);
  return result;
}

// x is rounded to the nearest step, so the error is half a step; x / scale,
// at most 254, carries three roundings (scale, its inverse, the product) of
// 2^-24 each, 254 * 3 * 2^-24 < 2^-14 steps, and the end of the range one
// clamp of that size.
void ExpectWithinHalfAStep(const std::vector<float>& x, const Quantized& q) {
  const double scale = q.scale.scale;
  for (size_t i = 0; i < x.size(); ++i) {
    ASSERT_GE(q.a[i], -127);
    ASSERT_LE(q.a[i], 127);
    const double back = scale * (q.a[i] - q.scale.zero_point);
    ASSERT_LE(std::fabs(x[i] - back), scale * (0.5 + 0x1p-13))
        << "x " << x[i] << " scale " << scale << " zero point "
        << q.scale.zero_point;
  }
}

TEST(ActivationTest, ParsesWhatItPrints) {
  for (const auto mode : {ActivationMode::kAffine, ActivationMode::kSymmetric,
                          ActivationMode::kFloat}) {
    const auto parsed = ParseActivationMode(ActivationModeName(mode));
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(*parsed, mode);
  }
  EXPECT_EQ(ParseActivationMode("int8").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ActivationTest, ErrorIsAtMostHalfAStepAtAnyLengthAndMagnitude) {
  std::mt19937 random(5);
  std::normal_distribution<double> normal;
  for (const ActivationMode mode : kModes) {
    for (int64_t count = 0; count <= 67; ++count) {
      for (const double magnitude : {1e-30, 1e-6, 1.0, 1e4, 1e30}) {
        for (const double mean : {0.0, 3.0, -3.0}) {
          std::vector<float> x(count);
          for (float& each : x) {
            each = static_cast<float>(magnitude * (normal(random) + mean));
          }
          ExpectWithinHalfAStep(x, Quantize(x, mode));
        }
      }
    }
  }
}

TEST(ActivationTest, ZeroIsExact) {
  std::mt19937 random(6);
  std::normal_distribution<float> normal;
  for (const ActivationMode mode : kModes) {
    for (int trial = 0; trial < 200; ++trial) {
      std::vector<float> x(40);
      for (float& each : x) each = normal(random) + trial % 7 - 3;
      x[trial % 40] = trial % 2 == 0 ? 0.0f : -0.0f;
      const Quantized q = Quantize(x, mode);
      EXPECT_EQ(q.a[trial % 40], q.scale.zero_point);
      EXPECT_LE(std::abs(q.scale.zero_point), 127);
      if (mode == ActivationMode::kSymmetric) {
        EXPECT_EQ(q.scale.zero_point, 0);
      }
    }
  }
}

TEST(ActivationTest, AllZeroGivesScaleZero) {
  for (const ActivationMode mode : kModes) {
    for (const float zero : {0.0f, -0.0f}) {
      const Quantized q = Quantize(std::vector<float>(33, zero), mode);
      EXPECT_EQ(q.scale.scale, 0.0f);
      EXPECT_EQ(q.scale.zero_point, 0);
      EXPECT_EQ(q.a, std::vector<int8_t>(33, 0));
    }
  }
  EXPECT_EQ(Quantize({}, ActivationMode::kAffine).scale.scale, 0.0f);
}

TEST(ActivationTest, OneSidedRowsUseTheWholeRange) {
  const Quantized up = Quantize({0.5f, 2.0f, 1.0f}, ActivationMode::kAffine);
  EXPECT_EQ(up.scale.zero_point, -127);
  EXPECT_EQ(up.a[1], 127);
  const Quantized down = Quantize({-0.5f, -2.0f}, ActivationMode::kAffine);
  EXPECT_EQ(down.scale.zero_point, 127);
  EXPECT_EQ(down.a[1], -127);
  const Quantized both =
      Quantize({-1.0f, 2.0f, -4.0f}, ActivationMode::kSymmetric);
  EXPECT_EQ(both.a[2], -127);
}

TEST(ActivationTest, ConstantRowsAreExactToRounding) {
  for (const ActivationMode mode : kModes) {
    for (const float value : {1.0f, -3.7f, 1e-20f, -1e20f}) {
      const std::vector<float> x(50, value);
      const Quantized q = Quantize(x, mode);
      const float back =
          q.scale.scale * static_cast<float>(q.a[0] - q.scale.zero_point);
      // One rounding of the scale and one of the product.
      EXPECT_NEAR(back, value, std::fabs(value) * 0x1p-22);
    }
  }
}

TEST(ActivationTest, TheLargestFloatsDoNotOverflow) {
  for (const ActivationMode mode : kModes) {
    const std::vector<float> x = {kFloatMax, -kFloatMax, 0.0f, 1.0f};
    const Quantized q = Quantize(x, mode);
    ASSERT_TRUE(std::isfinite(q.scale.scale));
    ExpectWithinHalfAStep(x, q);
  }
}

TEST(ActivationTest, ScalesThatWouldBeSubnormalBecomeZero) {
  for (const ActivationMode mode : kModes) {
    const float tiny = std::numeric_limits<float>::denorm_min();
    for (const float value : {tiny, kFloatMin, 100 * kFloatMin}) {
      const Quantized q = Quantize({value, -value / 2, 0.0f}, mode);
      EXPECT_EQ(q.scale.scale, 0.0f) << value;
      EXPECT_EQ(q.a, std::vector<int8_t>(3, 0));
    }
    const std::vector<float> x = {300 * kFloatMin, tiny, 0.0f};
    const Quantized q = Quantize(x, mode);
    EXPECT_GE(q.scale.scale, kFloatMin);
    ExpectWithinHalfAStep(x, q);
  }
}

TEST(ActivationTest, ValuesThatAreNotFiniteStillGiveValidOutput) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const ActivationMode mode : kModes) {
    for (const float bad : {inf, -inf, std::nanf(""), -std::nanf("")}) {
      std::vector<float> x(35, 1.0f);
      x[3] = bad;
      x[34] = bad;
      const Quantized q = Quantize(x, mode);
      EXPECT_LE(std::abs(q.scale.zero_point), 127);
      for (const int8_t a : q.a) EXPECT_GE(a, -127);
    }
  }
}

TEST(ActivationTest, MatchesNumPyInFloat64) {
  auto goldens = ReadGoldens();
  const GoldenTensor& stored = goldens["activation/x"];
  const auto x = stored.As<float>();
  ASSERT_GT(stored.rows, 10);
  for (const ActivationMode mode : kModes) {
    const std::string prefix =
        absl::StrCat("activation/", ActivationModeName(mode));
    const auto scales = goldens[prefix + "/scales"].As<double>();
    const auto zeros = goldens[prefix + "/zeros"].As<int32_t>();
    const auto codes = goldens[prefix + "/codes"].As<float>();
    ASSERT_EQ(codes.size(), x.size());
    for (int64_t row = 0; row < stored.rows; ++row) {
      const Quantized q =
          Quantize(std::vector<float>(x.begin() + row * stored.cols,
                                      x.begin() + (row + 1) * stored.cols),
                   mode);
      // Two quotients and a difference: three roundings.
      EXPECT_NEAR(q.scale.scale, scales[row], scales[row] * 3 * 0x1p-24);
      EXPECT_EQ(q.scale.zero_point, zeros[row]) << "row " << row;
      for (int64_t i = 0; i < stored.cols; ++i) {
        // Only what float32 cannot tell from a half may round otherwise.
        const double golden = codes[row * stored.cols + i];
        EXPECT_LE(std::fabs(q.a[i] - golden), 0.5 + 0x1p-13)
            << "row " << row << " column " << i;
      }
    }
  }
}

}  // namespace
}  // namespace pot
