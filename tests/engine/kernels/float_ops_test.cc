// Float operations: the same bits from every table, and accuracy against
// double precision.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "engine/kernels/aligned_buffer.h"
#include "gtest/gtest.h"
#include "tests/engine/kernels/kernel_test_util.h"

namespace pot {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Half an ulp of 1: the relative error of one rounding.
constexpr double kRounding = 0x1p-24;
// Whole vectors, tails, and lengths below one vector.
constexpr int64_t kCounts[] = {1, 2, 7, 15, 16, 17, 31, 64, 100, 768, 1025};

class FloatOpsTest : public KernelTableTest {};
INSTANTIATE_TEST_SUITE_P(Tables, FloatOpsTest, EveryTable(), TableName);

// The order of kernel_table.h, written out.
float DotByTheBook(const std::vector<float>& x, const std::vector<float>& y) {
  std::vector<float> p(16, 0.0f);
  for (size_t i = 0; i < x.size(); ++i) {
    const float product = x[i] * y[i];
    p[i % 16] = p[i % 16] + product;
  }
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t j = 0; j < half; ++j) p[j] = p[j] + p[j + half];
  }
  return p[0];
}

TEST_P(FloatOpsTest, DotSumsInTheDocumentedOrder) {
  for (const int64_t count : kCounts) {
    const std::vector<float> x = RandomFloats(count, -3.0f, 3.0f, 1);
    const std::vector<float> y = RandomFloats(count, -1.0f, 2.0f, 2);
    EXPECT_EQ(table().dot(x.data(), y.data(), count), DotByTheBook(x, y))
        << count;
  }
  EXPECT_EQ(table().dot(nullptr, nullptr, 0), 0.0f);
}

TEST_P(FloatOpsTest, AddScaledIsExactBeforeItRounds) {
  alignas(64) int32_t acc[64];
  alignas(64) int32_t level_sums[64];
  AlignedBuffer<float> scales(64);
  const std::vector<float> random = RandomFloats(192, -1.0f, 1.0f, 3);
  for (const int32_t zero_point : {0, 1, -127, 127}) {
    std::vector<float> y(64), expected(64);
    for (int n = 0; n < 64; ++n) {
      // Up to the largest magnitudes: 2^7 * 2^16 levels, 127 times as much acc.
      level_sums[n] = static_cast<int32_t>(random[n] * 0x1p23f);
      acc[n] = n % 2 == 0 ? -zero_point * level_sums[n]
                          : static_cast<int32_t>(random[64 + n] * 0x1p29f);
      scales[n] = random[128 + n];
      y[n] = expected[n] = random[n];
      const int64_t exact =
          int64_t{acc[n]} - int64_t{zero_point} * level_sums[n];
      const float product = scales[n] * static_cast<float>(exact);
      expected[n] = expected[n] + product;
    }
    table().add_scaled(acc, scales.data(), level_sums, zero_point, y.data());
    EXPECT_EQ(BitsOf(y), BitsOf(expected)) << zero_point;
  }
}

TEST_P(FloatOpsTest, LayerNormIsAccurateAndEqualsReference) {
  for (const int64_t count : kCounts) {
    const std::vector<float> x = RandomFloats(count, -2.0f, 4.0f, 4);
    const std::vector<float> gain = RandomFloats(count, 0.5f, 1.5f, 5);
    const std::vector<float> bias = RandomFloats(count, -1.0f, 1.0f, 6);
    std::vector<float> y(count), expected(count);
    table().layer_norm(x.data(), gain.data(), bias.data(), 1e-5f, count,
                       y.data());
    reference().layer_norm(x.data(), gain.data(), bias.data(), 1e-5f, count,
                           expected.data());
    EXPECT_EQ(BitsOf(y), BitsOf(expected)) << count;

    std::vector<float> in_place = x;
    table().layer_norm(in_place.data(), gain.data(), bias.data(), 1e-5f, count,
                       in_place.data());
    EXPECT_EQ(BitsOf(in_place), BitsOf(y)) << count;

    double mean = 0, variance = 0;
    for (const float v : x) mean += v;
    mean /= count;
    for (const float v : x) variance += (v - mean) * (v - mean);
    const double deviation = std::sqrt(variance / count + 1e-5);
    // The mean is off by at most (count / 16 + 4) roundings of sums below
    // 4 * count; dividing by the deviation magnifies that.
    const double tolerance =
        (count / 16 + 16) * kRounding * 8 * (1 + 4 / deviation);
    for (int64_t i = 0; i < count; ++i) {
      EXPECT_NEAR(y[i], (x[i] - mean) / deviation * gain[i] + bias[i],
                  tolerance)
          << count;
    }
  }
}

std::vector<float> Activations() {
  std::vector<float> x = RandomFloats(4001, -12.0f, 12.0f, 7);
  for (const float v :
       {0.0f, -0.0f, 1e-38f, -1e-38f, 1e-3f, -1e-3f, 5.65f, -5.65f, 13.0f,
        -13.0f, 100.0f, -100.0f, 1e10f, -1e10f, 1e20f, -1e20f, 3e38f, -3e38f}) {
    x.push_back(v);
  }
  return x;
}

void ExpectGelu(void (*gelu)(float*, int64_t),
                void (*reference)(float*, int64_t), double (*exact)(double)) {
  const std::vector<float> x = Activations();
  std::vector<float> y = x, expected = x;
  gelu(y.data(), static_cast<int64_t>(y.size()));
  reference(expected.data(), static_cast<int64_t>(expected.size()));
  EXPECT_EQ(BitsOf(y), BitsOf(expected));
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    ASSERT_TRUE(std::isfinite(y[i])) << x[i];
    const double scale = std::max(1.0, std::fabs(double{x[i]}));
    worst = std::max(worst, std::fabs(y[i] - exact(x[i])) / scale);
  }
  // As kernel_table.h says.
  EXPECT_LE(worst, 3e-7);
  testing::Test::RecordProperty("worst_error", std::to_string(worst * 1e9));
  // Tails: every count gives what the whole vector gave.
  for (const int64_t count : kCounts) {
    std::vector<float> part(x.begin(), x.begin() + count);
    gelu(part.data(), count);
    EXPECT_EQ(BitsOf(part), BitsOf({y.begin(), y.begin() + count})) << count;
  }
}

TEST_P(FloatOpsTest, GeluTanhIsAccurateAndEqualsReference) {
  ExpectGelu(table().gelu_tanh, reference().gelu_tanh, [](double x) {
    const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
    return 0.5 * x * (1 + std::tanh(u));
  });
}

TEST_P(FloatOpsTest, GeluErfIsAccurateAndEqualsReference) {
  ExpectGelu(table().gelu_erf, reference().gelu_erf,
             [](double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); });
}

TEST_P(FloatOpsTest, SoftmaxIsAccurateAndEqualsReference) {
  for (const int64_t count : kCounts) {
    std::vector<float> x = RandomFloats(count, -20.0f, 15.0f, 8);
    if (count > 20) x[3] = x[count - 1] = -kInfinity;
    std::vector<float> y = x, expected = x;
    table().softmax(y.data(), count);
    reference().softmax(expected.data(), count);
    EXPECT_EQ(BitsOf(y), BitsOf(expected)) << count;

    const double max = *std::max_element(x.begin(), x.end());
    double sum = 0;
    for (const float v : x) sum += std::exp(v - max);
    for (int64_t i = 0; i < count; ++i) {
      const double exact = std::exp(x[i] - max) / sum;
      // exp: 1.5 ulp (3 roundings) and the rounding of x - max, |x - max| <=
      // 35; the sum: the same, weighted, and count / 16 + 4 additions.
      EXPECT_NEAR(y[i], exact,
                  exact * kRounding * (2 * (3 + 35) + count / 16 + 5))
          << count;
    }
  }
}

TEST_P(FloatOpsTest, SoftmaxOfEqualValuesIsUniform) {
  for (const float v : {0.0f, -0.0f, 1e30f, -1e30f}) {
    std::vector<float> x(32, v);
    table().softmax(x.data(), 32);
    EXPECT_THAT(x, testing::Each(0x1p-5f)) << v;
  }
  table().softmax(nullptr, 0);
}

TEST_P(FloatOpsTest, AxpyRoundsTwice) {
  for (const int64_t count : kCounts) {
    const std::vector<float> x = RandomFloats(count, -3.0f, 3.0f, 9);
    std::vector<float> y = RandomFloats(count, -1.0f, 1.0f, 10), expected = y;
    for (int64_t i = 0; i < count; ++i) {
      const float product = 0.37f * x[i];
      expected[i] = expected[i] + product;
    }
    table().axpy(0.37f, x.data(), count, y.data());
    EXPECT_EQ(BitsOf(y), BitsOf(expected)) << count;
  }
}

// Value of a half by the definition of the format.
double HalfValue(uint16_t half) {
  const int exponent = half >> 10 & 31;
  const double mantissa = half & 0x3ff;
  const double magnitude = exponent == 0
                               ? std::ldexp(mantissa, -24)
                               : std::ldexp(1024 + mantissa, exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

TEST_P(FloatOpsTest, EveryHalfConvertsExactlyAndBack) {
  std::vector<uint16_t> halves(65536);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = i;
  // Mixed with weight 1 into -0, which any sum leaves as it is: by whole
  // vectors, and by a head size that makes tails of all.
  const float one = 1.0f;
  std::vector<float> x(halves.size(), -0.0f), tails(halves.size(), -0.0f);
  table().mix_values_f16(&one, 1, 1, halves.data(), 65536, 1, nullptr, x.data(),
                         65536);
  for (size_t i = 0; i < halves.size(); i += 8) {
    table().mix_values_f16(&one, 1, 1, halves.data() + i, 8, 1, nullptr,
                           tails.data() + i, 8);
  }
  EXPECT_EQ(BitsOf(tails), BitsOf(x));
  std::vector<uint16_t> back(halves.size());
  table().float_to_half(x.data(), 65536, back.data());
  for (size_t i = 0; i < halves.size(); ++i) {
    const bool nan = (i & 0x7c00) == 0x7c00 && (i & 0x3ff) != 0;
    const bool infinite = (i & 0x7fff) == 0x7c00;
    if (nan) {
      EXPECT_TRUE(std::isnan(x[i]));
      // Quiet, sign and payload kept.
      ASSERT_EQ(back[i], i | 0x200);
    } else {
      if (infinite) {
        ASSERT_EQ(x[i], i & 0x8000 ? -kInfinity : kInfinity);
      } else {
        ASSERT_EQ(x[i], HalfValue(i));
      }
      ASSERT_EQ(back[i], i);
    }
  }
  for (const int64_t count : {1, 7, 8, 9, 15, 17}) {
    // Tails meet every kind of value; the last of the table are NaNs.
    for (const int64_t begin : {1, 0x3f9, 0x7bf9, 0xfff0 - 1}) {
      std::vector<uint16_t> part(count, 0xffff);
      table().float_to_half(x.data() + begin, count, part.data());
      EXPECT_TRUE(std::equal(part.begin(), part.end(), back.begin() + begin));
    }
  }
}

TEST_P(FloatOpsTest, ExpSumIsAccurateAndEqualsReference) {
  for (const int64_t count : kCounts) {
    std::vector<float> x = RandomFloats(count, -30.0f, 5.0f, 13);
    if (count > 2) x[count / 2] = -kInfinity;
    float max, reference_max;
    const double sum = table().exp_sum(x.data(), count, &max);
    EXPECT_EQ(sum, reference().exp_sum(x.data(), count, &reference_max));
    EXPECT_EQ(max, *std::max_element(x.begin(), x.end()));
    EXPECT_EQ(max, reference_max);
    double exact = 0;
    for (const float value : x) exact += std::exp(double{value} - double{max});
    // Each term: one rounding of the difference, at most 35 units of 2^-24,
    // and 1.5 ulp of exp.
    EXPECT_NEAR(sum, exact, exact * 40 * kRounding);
  }
  const std::vector<float> none(5, -kInfinity);
  float max;
  EXPECT_EQ(table().exp_sum(none.data(), 5, &max), 0.0);
  EXPECT_EQ(max, -kInfinity);
}

TEST_P(FloatOpsTest, ArgMaxIsTheFirstGreatestOfFiniteValues) {
  for (const int64_t count : kCounts) {
    std::vector<float> x = RandomFloats(count, -30.0f, 5.0f, 17);
    const auto expected = [&x] {
      return std::max_element(x.begin(), x.end()) - x.begin();
    };
    EXPECT_EQ(table().arg_max(x.data(), count), expected());
    // The greatest in every place; then twice, where the first counts.
    for (int64_t i = 0; i < count; ++i) {
      std::vector<float> y = x;
      y[i] = 6.0f;
      EXPECT_EQ(table().arg_max(y.data(), count), i);
      y[count - 1] = 6.0f;
      EXPECT_EQ(table().arg_max(y.data(), count), i);
      for (const float fault : {kInfinity, -kInfinity, std::nanf("")}) {
        y[i] = fault;
        EXPECT_EQ(table().arg_max(y.data(), count), -1) << i;
      }
    }
    std::fill(x.begin(), x.end(), -1e30f);
    EXPECT_EQ(table().arg_max(x.data(), count), 0);
    x[0] = -3e38f;
    EXPECT_EQ(table().arg_max(x.data(), count), count > 1 ? 1 : 0);
  }
}

TEST_P(FloatOpsTest, SamplingWeightsAreTheNearestWholeNumbers) {
  constexpr double kUnit = 0x1p40;
  static_assert(kSamplingWeightBits == 40);
  for (const int64_t count : kCounts) {
    const std::vector<float> logits = RandomFloats(count, -40.0f, 5.0f, 19);
    for (const double temperature : {0.3, 1.0, 1.7}) {
      std::vector<double> values(logits.begin(), logits.end());
      std::vector<double> reference_values = values;
      std::vector<uint64_t> weights(count + 1, 77), reference_weights = weights;
      table().sampling_weights(values.data(), count, 5.0, temperature,
                               weights.data());
      reference().sampling_weights(reference_values.data(), count, 5.0,
                                   temperature, reference_weights.data());
      EXPECT_EQ(values, reference_values);
      EXPECT_EQ(weights, reference_weights);
      EXPECT_EQ(weights[count], 77u) << "beyond the end";
      for (int64_t i = 0; i < count; ++i) {
        EXPECT_EQ(values[i], (5.0 - double{logits[i]}) / temperature);
        EXPECT_NEAR(static_cast<double>(weights[i]),
                    std::exp(-values[i]) * kUnit, 0.5 + kUnit * 1e-13);
        if (values[i] >= kNegligibleDeficit) {
          EXPECT_EQ(weights[i], 0u);
        }
      }
    }
  }
  double greatest = 3.0;
  uint64_t weight = 0;
  table().sampling_weights(&greatest, 1, 3.0, 0.5, &weight);
  EXPECT_EQ(weight, uint64_t{1} << 40);
}

TEST_P(FloatOpsTest, QuantizesLikeTheDefinition) {
  for (const int64_t count : kCounts) {
    for (const ActivationMode mode :
         {ActivationMode::kAffine, ActivationMode::kSymmetric}) {
      for (const auto& [low, high] : {std::pair{-1.0f, 2.5f},
                                      {0.5f, 1.0f},
                                      {-3.0f, -1.0f},
                                      {0.0f, 0.0f},
                                      {-1e-40f, 1e-39f},
                                      {-3e38f, 3e38f}}) {
        std::vector<float> x = RandomFloats(count, low, high, 7);
        for (int extreme = 0; extreme < 2; ++extreme) {
          // Also the largest value in the tail, or alone.
          if (extreme == 1) x.back() = x.back() * 1.125f;
          std::vector<int8_t> a(count + 1, 77), expected(count + 1, 77);
          const ActivationScale scale =
              table().quantize(x.data(), count, mode, a.data());
          const ActivationScale expected_scale =
              QuantizeActivation(x.data(), count, mode, expected.data());
          EXPECT_EQ(a, expected) << count << ": " << low << " to " << high;
          EXPECT_EQ(scale.scale, expected_scale.scale);
          EXPECT_EQ(scale.zero_point, expected_scale.zero_point);
        }
      }
    }
  }
}

TEST_P(FloatOpsTest, QuantizeStaysInRangeWithoutFiniteValues) {
  for (const float bad : {kInfinity, -kInfinity, std::nanf("")}) {
    for (size_t at = 0; at < 20; ++at) {
      std::vector<float> x(20, 1.0f);
      x[at] = bad;
      std::vector<int8_t> a(20);
      const ActivationScale scale =
          table().quantize(x.data(), 20, ActivationMode::kAffine, a.data());
      EXPECT_THAT(a, testing::Each(testing::Ge(-127)));
      EXPECT_THAT(scale.zero_point,
                  testing::AllOf(testing::Ge(-127), testing::Le(127)));
    }
  }
}

TEST_P(FloatOpsTest, ScalesOutputsWithTwoRoundings) {
  const std::vector<float> sums = RandomFloats(64, -1e5f, 1e5f, 11);
  const std::vector<float> bias = RandomFloats(64, -1.0f, 1.0f, 12);
  std::vector<float> y(64), expected(64);
  table().scale_outputs(sums.data(), 0.0123f, bias.data(), y.data());
  for (int n = 0; n < 64; ++n) {
    const float product = sums[n] * 0.0123f;
    expected[n] = product + bias[n];
  }
  EXPECT_EQ(BitsOf(y), BitsOf(expected));
  table().scale_outputs(sums.data(), 0.0123f, nullptr, y.data());
  for (int n = 0; n < 64; ++n) expected[n] = sums[n] * 0.0123f;
  EXPECT_EQ(BitsOf(y), BitsOf(expected));
}

TEST_P(FloatOpsTest, FloatsRoundToTheNearestHalfTiesToEven) {
  // Between every two neighbouring finite halves: the middle, which goes to
  // the even one, and its float neighbours, which do not.
  std::vector<float> x;
  std::vector<uint16_t> expected;
  for (int half = 0; half < 0x7bff; ++half) {
    const float middle =
        static_cast<float>((HalfValue(half) + HalfValue(half + 1)) / 2);
    for (const float sign : {1.0f, -1.0f}) {
      const int bit = sign < 0 ? 0x8000 : 0;
      x.push_back(sign * std::nextafter(middle, 0.0f));
      expected.push_back(half | bit);
      x.push_back(sign * middle);
      expected.push_back((half + (half & 1)) | bit);
      x.push_back(sign * std::nextafter(middle, kInfinity));
      expected.push_back((half + 1) | bit);
    }
  }
  for (const float v : {65520.0f, 1e6f, 3e38f, kInfinity}) {
    x.push_back(v);
    expected.push_back(0x7c00);
    x.push_back(-v);
    expected.push_back(0xfc00);
  }
  x.push_back(std::nextafter(65520.0f, 0.0f));
  expected.push_back(0x7bff);
  x.push_back(1e-45f);  // a float subnormal
  expected.push_back(0);
  std::vector<uint16_t> halves(x.size());
  table().float_to_half(x.data(), static_cast<int64_t>(x.size()),
                        halves.data());
  for (size_t i = 0; i < x.size(); ++i)
    ASSERT_EQ(halves[i], expected[i]) << x[i];
}

}  // namespace
}  // namespace pot
