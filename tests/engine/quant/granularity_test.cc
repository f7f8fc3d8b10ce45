#include "engine/quant/granularity.h"

#include "gtest/gtest.h"

namespace pot {
namespace {

TEST(GranularityTest, ParsesWhatItPrints) {
  for (const char* text : {"tensor", "row", "g32", "g64", "g128"}) {
    const auto parsed = Granularity::Parse(text);
    ASSERT_TRUE(parsed.ok()) << text;
    EXPECT_EQ(parsed->ToString(), text);
  }
}

TEST(GranularityTest, RefusesAnythingElse) {
  for (const char* text : {"", "g", "g0", "g16", "g-32", "g032", "g256", "Row",
                           "row ", "g64x", "g18446744073709551648"}) {
    EXPECT_EQ(Granularity::Parse(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
}

TEST(GranularityTest, CountsGroupsWithAShorterLastOne) {
  const Granularity g64 = *Granularity::Parse("g64");
  EXPECT_EQ(g64.GroupsPerRow(1), 1);
  EXPECT_EQ(g64.GroupsPerRow(63), 1);
  EXPECT_EQ(g64.GroupsPerRow(64), 1);
  EXPECT_EQ(g64.GroupsPerRow(65), 2);
  EXPECT_EQ(g64.GroupsPerRow(768), 12);
  EXPECT_EQ(g64.GroupSize(768), 64);
  for (const char* text : {"tensor", "row"}) {
    const Granularity whole = *Granularity::Parse(text);
    EXPECT_EQ(whole.GroupsPerRow(768), 1);
    EXPECT_EQ(whole.GroupSize(768), 768);
  }
}

}  // namespace
}  // namespace pot
