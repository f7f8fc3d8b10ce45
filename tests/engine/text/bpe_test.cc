#include "engine/text/bpe.h"

#include <map>
#include <random>
#include <utility>

#include "gtest/gtest.h"

namespace pot {
namespace {

using Tokens = std::vector<int32_t>;

Tokens Apply(const BpeMerges& merges, Tokens tokens) {
  BpeMerges::Workspace workspace;
  merges.Apply(&tokens, &workspace);
  return tokens;
}

TEST(BpeTest, LowestRankFirstThenLeftmost) {
  BpeMerges merges;
  ASSERT_TRUE(merges.Add(2, 3, 10));
  ASSERT_TRUE(merges.Add(1, 2, 11));
  ASSERT_TRUE(merges.Add(1, 10, 12));
  ASSERT_TRUE(merges.Add(5, 5, 13));
  EXPECT_EQ(Apply(merges, {1, 2, 3}), (Tokens{12}));
  EXPECT_EQ(Apply(merges, {1, 2, 2, 3}), (Tokens{11, 10}));
  EXPECT_EQ(Apply(merges, {5, 5, 5}), (Tokens{13, 5}));
  EXPECT_EQ(Apply(merges, {5, 5, 5, 5}), (Tokens{13, 13}));
  EXPECT_EQ(Apply(merges, {7}), (Tokens{7}));
  EXPECT_EQ(Apply(merges, {}), (Tokens{}));
}

TEST(BpeTest, APairHasOneRule) {
  BpeMerges merges;
  EXPECT_TRUE(merges.Add(1, 2, 3));
  EXPECT_FALSE(merges.Add(1, 2, 4));
  EXPECT_EQ(merges.size(), 1);
  EXPECT_EQ(Apply(merges, {1, 2}), (Tokens{3}));
}

// The definition itself: look at every pair before every merge.
Tokens ApplyNaively(
    const std::map<std::pair<int, int>, std::pair<int, int>>& rank_and_result,
    Tokens tokens) {
  while (true) {
    int best_rank = -1;
    size_t best = 0;
    for (size_t i = 0; i + 1 < tokens.size(); ++i) {
      const auto rule = rank_and_result.find({tokens[i], tokens[i + 1]});
      if (rule == rank_and_result.end()) continue;
      if (best_rank < 0 || rule->second.first < best_rank) {
        best_rank = rule->second.first;
        best = i;
      }
    }
    if (best_rank < 0) return tokens;
    tokens[best] = rank_and_result.at({tokens[best], tokens[best + 1]}).second;
    tokens.erase(tokens.begin() + best + 1);
  }
}

// Random rules in random order: results also feed rules of lower rank, and
// several pairs share a result, as hostile files may have it.
TEST(BpeTest, EqualsTheDefinitionOnRandomRules) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    BpeMerges merges;
    std::map<std::pair<int, int>, std::pair<int, int>> rules;
    for (int i = 0; i < 30; ++i) {
      const int left = random() % 12, right = random() % 12;
      const int result = random() % 16;
      const int rank = static_cast<int>(merges.size());
      if (merges.Add(left, right, result)) {
        rules[{left, right}] = {rank, result};
      }
    }
    for (int text = 0; text < 20; ++text) {
      Tokens tokens(random() % 60);
      for (int32_t& token : tokens) token = random() % 5;
      ASSERT_EQ(Apply(merges, tokens), ApplyNaively(rules, tokens));
    }
  }
}

}  // namespace
}  // namespace pot
