#include "server/serving/round_plan.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/server/serving/serving_testing.h"

namespace pot {
namespace {

class RoundPlanTest : public testing::Test {
 protected:
  ForwardSpan Span(int64_t tokens, ForwardSpan::Logits logits) {
    return {.tokens = absl::MakeConstSpan(tokens_).first(tokens),
            .logits = logits};
  }

  static RoundPlan Plan(int64_t chunk_tokens, int64_t max_logit_bytes) {
    return RoundPlan([=](const LoadedModel*) { return chunk_tokens; },
                     max_logit_bytes);
  }

  const LoadedModel* const model_ = TinyModel().get();
  const LoadedModel* const other_ = OtherTinyModel().get();
  const int64_t row_bytes_ = TinyModel()->config().vocab_size * 4;
  const std::vector<int32_t> tokens_ = std::vector<int32_t>(64, 1);
};

TEST_F(RoundPlanTest, ChunksShareTheTokensOfAModelAndDecodesAreFree) {
  RoundPlan plan = Plan(10, 1 << 20);
  plan.AddDecode(model_, nullptr, 0, Span(1, ForwardSpan::Logits::kLast));
  EXPECT_EQ(plan.ChunkLimit(model_, false), 10);
  plan.AddChunk(model_, nullptr, 0, Span(7, ForwardSpan::Logits::kLast));
  EXPECT_EQ(plan.ChunkLimit(model_, false), 3);
  EXPECT_EQ(plan.ChunkLimit(other_, false), 10);
  ASSERT_EQ(plan.steps().size(), 2);
  EXPECT_EQ(plan.steps()[0].items.size(), 2);
  EXPECT_TRUE(plan.steps()[0].items[0].decode);
  EXPECT_FALSE(plan.steps()[0].items[1].decode);
}

TEST_F(RoundPlanTest, RowsWithLogitsAreBoundedByTheirBytes) {
  RoundPlan plan = Plan(10, 4 * row_bytes_ + 1);
  EXPECT_EQ(plan.ChunkLimit(model_, true), 4);
  plan.AddChunk(model_, nullptr, 0, Span(3, ForwardSpan::Logits::kAll));
  EXPECT_EQ(plan.ChunkLimit(model_, true), 1);
  EXPECT_EQ(plan.ChunkLimit(model_, false), 7);
  plan.AddChunk(model_, nullptr, 0, Span(7, ForwardSpan::Logits::kNone));
  EXPECT_EQ(plan.ChunkLimit(model_, true), 0);
}

TEST_F(RoundPlanTest, TheFirstChunkAlwaysGetsOn) {
  RoundPlan plan = Plan(1, 0);
  EXPECT_EQ(plan.ChunkLimit(model_, true), 1);
}

TEST_F(RoundPlanTest, TokensAreAskedForOncePerModelAfterItsDecodes) {
  std::vector<size_t> items_when_asked;
  RoundPlan plan(
      [&](const LoadedModel* model) {
        EXPECT_EQ(model, model_);
        items_when_asked.push_back(plan.steps()[0].items.size());
        return 9;
      },
      1 << 20);
  plan.AddDecode(model_, nullptr, 0, Span(1, ForwardSpan::Logits::kLast));
  plan.AddDecode(model_, nullptr, 1, Span(1, ForwardSpan::Logits::kLast));
  EXPECT_EQ(plan.ChunkLimit(model_, false), 9);
  plan.AddChunk(model_, nullptr, 0, Span(4, ForwardSpan::Logits::kNone));
  EXPECT_EQ(plan.ChunkLimit(model_, false), 5);
  EXPECT_EQ(items_when_asked, std::vector<size_t>{2});
}

}  // namespace
}  // namespace pot
