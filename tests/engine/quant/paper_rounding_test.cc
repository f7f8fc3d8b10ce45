#include "engine/quant/paper_rounding.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "tests/engine/quant/golden_file.h"

namespace pot {
namespace {

TEST(PaperRoundingTest, RoundsHalvesToEven) {
  for (const float half : {0.5f, 1.5f, 2.5f, 3.5f, 4194303.5f}) {
    for (const float x :
         {std::nextafter(half, 0.0f), half, std::nextafter(half, 1e9f)}) {
      // The default rounding mode of nearbyint is half to even.
      EXPECT_EQ(RoundHalfEven(x), std::nearbyint(x)) << x;
    }
  }
  for (const float x : {0.0f, 1e-45f, 8388607.0f, 8388608.0f, 16777218.0f,
                        1e30f, std::numeric_limits<float>::infinity()}) {
    EXPECT_EQ(RoundHalfEven(x), std::nearbyint(x)) << x;
  }
}

TEST(PaperRoundingTest, MatchesCorrectlyRoundedFloatLog2) {
  auto goldens = ReadGoldens();
  const auto a = goldens["log2/a"].As<float>();
  const auto rounded = goldens["log2/rounded"].As<int32_t>();
  ASSERT_GT(a.size(), 1000u);
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(RoundedLog2(a[i]), rounded[i]) << "log2 of " << a[i];
  }
}

// Every integer that pot2 to pot5 can meet: sqrt(2) * 2^e is irrational, so
// a^2 against 2^(2e+1) decides in integers.
TEST(PaperRoundingTest, MatchesIntegerComparisonUpTo2To16) {
  for (int64_t a = 1; a <= 1 << 16; ++a) {
    int e = 0;
    while (int64_t{2} << e <= a) ++e;
    const int expected = a * a > int64_t{2} << (2 * e) ? e + 1 : e;
    ASSERT_EQ(RoundedLog2(static_cast<float>(a)), expected) << a;
  }
}

TEST(PaperRoundingTest, InfinityIsBeyondEveryClamp) {
  EXPECT_EQ(RoundedLog2(std::numeric_limits<float>::infinity()), 128);
}

}  // namespace
}  // namespace pot
