#include "engine/base/half.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace pot {
namespace {

// IEEE 754-2008, 3.4: the value by its definition, in double.
double HalfByDefinition(int half) {
  const int exponent = (half >> 10) & 0x1f;
  const int fraction = half & 0x3ff;
  const double magnitude = exponent == 0
                               ? std::ldexp(fraction, -24)
                               : std::ldexp(1024 + fraction, exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

bool IsFiniteHalf(int half) { return ((half >> 10) & 0x1f) != 0x1f; }

TEST(Half, EveryFiniteValueIsExactAndComesBack) {
  for (int half = 0; half < 0x10000; ++half) {
    if (!IsFiniteHalf(half)) continue;
    const float value = HalfBitsToFloat(static_cast<uint16_t>(half));
    ASSERT_EQ(value, HalfByDefinition(half)) << half;
    ASSERT_EQ(FloatToHalfBits(value), half) << half;
  }
}

TEST(Half, InfinitiesAndNansStayWhatTheyAre) {
  for (int half = 0; half < 0x10000; ++half) {
    if (IsFiniteHalf(half)) continue;
    const float value = HalfBitsToFloat(static_cast<uint16_t>(half));
    if ((half & 0x3ff) == 0) {
      EXPECT_EQ(value, half & 0x8000 ? -INFINITY : INFINITY);
      EXPECT_EQ(FloatToHalfBits(value), half);
    } else {
      EXPECT_TRUE(std::isnan(value)) << half;
      EXPECT_TRUE(std::isnan(HalfBitsToFloat(FloatToHalfBits(value)))) << half;
    }
  }
}

// Between two neighbours: the middle goes to the even one, and the next floats
// beside the middle to the nearer one.
TEST(Half, RoundsToNearestTiesToEven) {
  for (int low = 0; low < 0x7bff; ++low) {
    const float middle = static_cast<float>(
        (HalfByDefinition(low) + HalfByDefinition(low + 1)) / 2);
    const int even = low % 2 == 0 ? low : low + 1;
    ASSERT_EQ(FloatToHalfBits(middle), even) << low;
    ASSERT_EQ(FloatToHalfBits(-middle), even | 0x8000) << low;
    ASSERT_EQ(FloatToHalfBits(std::nextafter(middle, 0.0f)), low) << low;
    ASSERT_EQ(FloatToHalfBits(std::nextafter(middle, 1e9f)), low + 1) << low;
  }
}

TEST(Half, OverflowsFromTheMiddleAboveTheLargest) {
  EXPECT_EQ(FloatToHalfBits(65504.0f), 0x7bff);
  EXPECT_EQ(FloatToHalfBits(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(FloatToHalfBits(65520.0f), 0x7c00);
  EXPECT_EQ(FloatToHalfBits(-std::numeric_limits<float>::max()), 0xfc00);
}

TEST(Bfloat16, IsTheUpperHalfOfAFloat) {
  EXPECT_EQ(Bfloat16BitsToFloat(0x3f80), 1.0f);
  EXPECT_EQ(Bfloat16BitsToFloat(0xc049), -3.140625f);  // -(1 + 73/128) * 2
  EXPECT_EQ(Bfloat16BitsToFloat(0x0001), 0x1p-133f);
  EXPECT_EQ(Bfloat16BitsToFloat(0x7f80), INFINITY);
  EXPECT_TRUE(std::isnan(Bfloat16BitsToFloat(0x7fc0)));
}

}  // namespace
}  // namespace pot
