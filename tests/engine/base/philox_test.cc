#include "engine/base/philox.h"

#include <set>

#include "gtest/gtest.h"

namespace pot {
namespace {

using Words = std::array<uint32_t, 4>;

// The "philox4x32 10" lines of the paper's kat_vectors file.
TEST(PhiloxTest, KnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t ones = 0xffffffff;
  EXPECT_EQ(Philox4x32({ones, ones, ones, ones}, {ones, ones}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
                       {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// From the first known answer: (0x6627e8d5 >> 5) * 2^26 + (0xe169c58d >> 6).
TEST(PhiloxTest, UniformUsesThe53TopBits) {
  const double expected =
      ((uint64_t{0x6627e8d5 >> 5} << 26) + (0xe169c58d >> 6)) /
      9007199254740992.0;
  EXPECT_EQ(PhiloxUniform(0, 0, 0), expected);
}

TEST(PhiloxTest, UniformDependsOnEveryBitOfItsArguments) {
  std::set<double> draws = {PhiloxUniform(0, 0, 0)};
  for (int bit = 0; bit < 64; ++bit) {
    draws.insert(PhiloxUniform(uint64_t{1} << bit, 0, 0));
    draws.insert(PhiloxUniform(0, 0, uint64_t{1} << bit));
  }
  for (int bit = 0; bit < 32; ++bit) {
    draws.insert(PhiloxUniform(0, uint32_t{1} << bit, 0));
  }
  EXPECT_EQ(draws.size(), 1 + 64 + 64 + 32);
}

// The mean of n uniform draws has standard deviation 1/sqrt(12 n) = 0.0009,
// and the share below 0.1 has sqrt(0.09/n) = 0.00095: six of each.
TEST(PhiloxTest, UniformLooksUniform) {
  const int n = 100000;
  double sum = 0;
  int low = 0;
  for (int i = 0; i < n; ++i) {
    const double draw = PhiloxUniform(7, 3, i);
    ASSERT_GE(draw, 0.0);
    ASSERT_LT(draw, 1.0);
    sum += draw;
    low += draw < 0.1;
  }
  EXPECT_NEAR(sum / n, 0.5, 0.0055);
  EXPECT_NEAR(low / double{n}, 0.1, 0.0057);
}

}  // namespace
}  // namespace pot
