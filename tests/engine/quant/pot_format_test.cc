#include "engine/quant/pot_format.h"

#include <cmath>
#include <cstdlib>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using ::testing::HasSubstr;

// The level of a code, from the text of pot_format.h and in floating point.
double LevelByText(const std::string& name, int code) {
  const int bits = name == "twohot4" ? 4 : name[3] - '0';
  if (name.starts_with("int")) {  // two's complement
    return code < (1 << (bits - 1)) ? code : code - (1 << bits);
  }
  const int half = 1 << (bits - 1);
  const double sign = code >= half ? -1 : 1;
  const int m = code % half;
  if (name == "twohot4") {
    const double magnitudes[] = {1, 3, 5, 7, 10, 14, 20, 28};
    return sign * magnitudes[m];
  }
  if (name.ends_with("-strict")) return sign * std::pow(2.0, m);
  if (m > 0) return sign * std::pow(2.0, m - 1);
  return sign > 0 ? 0.0 : -std::pow(2.0, half - 1);
}

TEST(PotFormatTest, EveryCodeOfEveryFormatHasTheDocumentedLevel) {
  for (const PotFormat& format : AllPotFormats()) {
    for (int code = 0; code < format.num_codes(); ++code) {
      EXPECT_EQ(format.levels[code],
                LevelByText(std::string(format.name), code))
          << format.name << " code " << code;
    }
    for (int code = format.num_codes(); code < 64; ++code) {
      EXPECT_EQ(format.levels[code], 0) << format.name << " code " << code;
    }
  }
}

TEST(PotFormatTest, TermsAddUpToTheLevel) {
  for (const PotFormat& format : AllPotFormats()) {
    const bool two_hot =
        format.name == "twohot4" || format.name.substr(0, 3) == "int";
    for (int code = 0; code < format.num_codes(); ++code) {
      double sum = 0;
      int terms = 0;
      for (int i = 0; i < 2; ++i) {
        const int sign = format.terms[code].sign[i];
        EXPECT_LE(std::abs(sign), 1);
        sum += sign * std::ldexp(1.0, format.terms[code].shift[i]);
        terms += std::abs(sign);
      }
      EXPECT_EQ(sum, format.levels[code]) << format.name << " code " << code;
      EXPECT_LE(terms, two_hot ? 2 : 1);
    }
  }
}

TEST(PotFormatTest, LevelsAreDistinctAndInRange) {
  for (const PotFormat& format : AllPotFormats()) {
    const int64_t low = format.bits <= 4 ? -128 : -(int64_t{1} << 31);
    const int64_t high = format.bits <= 4 ? 128 : int64_t{1} << 30;
    std::set<int64_t> levels;
    int64_t top = 0;
    for (int code = 0; code < format.num_codes(); ++code) {
      const int64_t level = format.levels[code];
      EXPECT_TRUE(levels.insert(level).second)
          << format.name << " has " << level << " twice";
      EXPECT_GE(level, low) << format.name;
      EXPECT_LE(level, high) << format.name;
      top = std::max(top, std::abs(level));
    }
    EXPECT_EQ(format.top(), top) << format.name;
    EXPECT_EQ(format.lopsided, *levels.begin() != -*levels.rbegin())
        << format.name;
  }
}

TEST(PotFormatTest, PaperLevelsExistWherePaperModeApplies) {
  for (const PotFormat& format : AllPotFormats()) {
    const std::set<int64_t> levels(format.levels.begin(),
                                   format.levels.begin() + format.num_codes());
    const bool applies = levels.contains(0) && !levels.contains(3);
    EXPECT_EQ(format.paper_max_exponent >= 0, applies) << format.name;
    for (int e = 0; e <= format.paper_max_exponent; ++e) {
      EXPECT_TRUE(levels.contains(int64_t{1} << e)) << format.name;
      EXPECT_TRUE(levels.contains(-(int64_t{1} << e))) << format.name;
    }
    // {0, +-2^0 .. +-2^k} is all but one of the levels.
    if (applies) {
      EXPECT_EQ(2 * (format.paper_max_exponent + 1) + 1,
                format.num_codes() - 1);
    }
  }
}

TEST(PotFormatTest, FourBitLevelsOfThePapers) {
  const auto format = FindPotFormat("pot4");
  ASSERT_TRUE(format.ok());
  EXPECT_THAT(std::vector<int32_t>((*format)->levels.begin(),
                                   (*format)->levels.begin() + 16),
              testing::ElementsAre(0, 1, 2, 4, 8, 16, 32, 64, -128, -1, -2, -4,
                                   -8, -16, -32, -64));
}

TEST(PotFormatTest, FindsByNameAndListsTheKnownOnes) {
  for (const PotFormat& format : AllPotFormats()) {
    const auto found = FindPotFormat(format.name);
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(*found, &format);
  }
  for (const char* name :
       {"", "pot1", "pot7", "POT4", "pot4 ", "pot5-strict"}) {
    const auto found = FindPotFormat(name);
    ASSERT_FALSE(found.ok()) << name;
    EXPECT_EQ(found.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(found.status().message()),
                HasSubstr("pot2, pot3, pot4, pot5, pot6, pot2-strict, "
                          "pot3-strict, pot4-strict, twohot4, int3, int4"));
  }
}

}  // namespace
}  // namespace pot
