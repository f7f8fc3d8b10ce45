#include "engine/kernels/float_math.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/kernels/kernel_test_util.h"

namespace pot {
namespace {

constexpr float kInfinityF = std::numeric_limits<float>::infinity();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

constexpr long double LongDouble(double x) { return x; }

// Error in units of the last place of `exact`'s nearest T.
template <typename T>
double Ulps(T actual, long double exact) {
  const T nearest = static_cast<T>(exact);
  const T next =
      std::nextafter(std::fabs(nearest), std::numeric_limits<T>::infinity());
  const long double ulp = static_cast<long double>(next) - std::fabs(nearest);
  return static_cast<double>(std::fabs(actual - exact) / ulp);
}

TEST(ExpF, IsWithinOneAndAHalfUlp) {
  double worst = 0;
  for (float x = -87.3f; x < 88.7f; x += 0.00037f) {
    worst = std::max(worst, Ulps(ExpF(x), std::exp(static_cast<double>(x))));
  }
  for (float x = 1e-20f; x < 1.0f; x *= 1.01f) {
    for (const float signed_x : {x, -x}) {
      worst = std::max(
          worst, Ulps(ExpF(signed_x), std::exp(static_cast<double>(signed_x))));
    }
  }
  EXPECT_LE(worst, 1.5);
}

TEST(ExpF, HandlesTheEnds) {
  EXPECT_EQ(ExpF(0.0f), 1.0f);
  EXPECT_EQ(ExpF(-0.0f), 1.0f);
  EXPECT_EQ(ExpF(-kInfinityF), 0.0f);
  EXPECT_EQ(ExpF(kInfinityF), kInfinityF);
  EXPECT_EQ(ExpF(-1e30f), 0.0f);
  EXPECT_EQ(ExpF(-103.98f), 0.0f);
  EXPECT_EQ(ExpF(88.73f), kInfinityF);
  EXPECT_LT(ExpF(88.72f), kInfinityF);
  EXPECT_TRUE(std::isnan(ExpF(std::numeric_limits<float>::quiet_NaN())));
  // Gradual underflow: within one unit of the smallest subnormal.
  for (float x = -103.9f; x < -87.4f; x += 0.01f) {
    EXPECT_NEAR(ExpF(x), std::exp(static_cast<double>(x)),
                1.5 * std::numeric_limits<float>::denorm_min())
        << x;
  }
}

TEST(Exp, IsWithinTwoUlp) {
  double worst = 0;
  for (double x = -708.0; x < 709.7; x += 0.00713) {
    worst = std::max(worst, Ulps(Exp(x), std::exp(LongDouble(x))));
  }
  for (double x = 1e-300; x < 1.0; x *= 1.1) {
    worst = std::max(worst, Ulps(Exp(x), std::exp(LongDouble(x))));
    worst = std::max(worst, Ulps(Exp(-x), std::exp(LongDouble(-x))));
  }
  EXPECT_LE(worst, 2.0);
}

TEST(Exp, HandlesTheEnds) {
  EXPECT_EQ(Exp(0.0), 1.0);
  EXPECT_EQ(Exp(-kInfinity), 0.0);
  EXPECT_EQ(Exp(kInfinity), kInfinity);
  EXPECT_EQ(Exp(-745.2), 0.0);
  EXPECT_EQ(Exp(709.79), kInfinity);
  EXPECT_LT(Exp(709.78), kInfinity);
  EXPECT_NEAR(Exp(-745.0), 4.94e-324, 5e-324);
  EXPECT_TRUE(std::isnan(Exp(std::numeric_limits<double>::quiet_NaN())));
}

TEST(Log, IsWithinTwoUlp) {
  double worst = 0;
  std::mt19937_64 random(1);
  for (int i = 0; i < 200000; ++i) {
    // Positive normal numbers of every exponent.
    const uint64_t bits = random() % (0x7fe0000000000000 - 0x0010000000000000) +
                          0x0010000000000000;
    const double x = std::bit_cast<double>(bits);
    worst = std::max(worst, Ulps(Log(x), std::log(LongDouble(x))));
  }
  for (double d = 1e-15; d < 1.0; d *= 1.05) {
    worst = std::max(worst, Ulps(Log(1 + d), std::log(LongDouble(1 + d))));
    worst = std::max(worst, Ulps(Log(1 - d), std::log(LongDouble(1 - d))));
  }
  EXPECT_LE(worst, 2.0);
}

TEST(Log, HandlesTheEnds) {
  EXPECT_EQ(Log(1.0), 0.0);
  EXPECT_EQ(Log(0.0), -kInfinity);
  EXPECT_EQ(Log(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(Log(-1.0)));
  EXPECT_TRUE(std::isnan(Log(-kInfinity)));
  EXPECT_TRUE(std::isnan(Log(std::numeric_limits<double>::quiet_NaN())));
  for (const double x : {4.94e-324, 1e-310, 2.2e-308}) {
    EXPECT_LE(Ulps(Log(x), std::log(LongDouble(x))), 2.0) << x;
  }
}

TEST(LogSumExp, IsWithinItsErrorBound) {
  for (const int64_t count : {1, 2, 15, 16, 17, 65, 1000, 50257}) {
    for (const float spread : {0.0f, 1.0f, 20.0f, 1e4f}) {
      const std::vector<float> x =
          RandomFloats(count, -spread, spread, 3 + count);
      const double max = *std::max_element(x.begin(), x.end());
      long double sum = 0;
      for (const float v : x) sum += std::exp(LongDouble(v) - max);
      const double exact = static_cast<double>(max + std::log(sum));
      EXPECT_NEAR(LogSumExp(x.data(), count), exact,
                  2e-7 + 0x1p-52 * std::fabs(exact))
          << count << " within " << spread;
    }
  }
}

TEST(LogSumExp, TakesMinusInfinityAsAbsent) {
  const std::vector<float> x = {-kInfinityF, 3.5f, -kInfinityF};
  EXPECT_EQ(LogSumExp(x.data(), 3), 3.5);
  EXPECT_EQ(LogSumExp(x.data(), 1), -kInfinity);
}

}  // namespace
}  // namespace pot
