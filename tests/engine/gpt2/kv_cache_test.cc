#include "engine/gpt2/kv_cache.h"

#include <cstring>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using testing::HasSubstr;

Gpt2Config SmallConfig() {
  Gpt2Config config;
  config.n_layer = 3;
  config.n_head = 2;
  config.n_embd = 10;
  config.n_positions = 50;
  return config;
}

TEST(KvCacheTest, BytesAreWholeBlocksOfBothTypes) {
  const Gpt2Config config = SmallConfig();
  // A block: 3 layers, keys and values, 16 positions, 10 elements.
  constexpr int64_t kBlock = 3 * 2 * 16 * 10;
  EXPECT_EQ(KvCache::BytesFor(config, KvType::kF16, 1), kBlock * 2);
  EXPECT_EQ(KvCache::BytesFor(config, KvType::kF16, 16), kBlock * 2);
  EXPECT_EQ(KvCache::BytesFor(config, KvType::kF16, 17), 2 * kBlock * 2);
  EXPECT_EQ(KvCache::BytesFor(config, KvType::kF32, 17), 2 * kBlock * 4);
}

TEST(KvCacheTest, CapacityIsReservedAndGivenBack) {
  const Gpt2Config config = SmallConfig();
  const int64_t bytes = KvCache::BytesFor(config, KvType::kF16, 20);
  const auto budget = std::make_shared<KvBudget>(2 * bytes - 1);
  auto first = KvCache::Create(config, KvType::kF16, 20, budget);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(budget->used_bytes(), bytes);

  auto second = KvCache::Create(config, KvType::kF16, 20, budget);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr("needs 3840 bytes, 3839 of 7679 are free"));
  EXPECT_EQ(budget->used_bytes(), bytes);

  first->reset();
  EXPECT_EQ(budget->used_bytes(), 0);
  EXPECT_TRUE(KvCache::Create(config, KvType::kF16, 20, budget).ok());
}

TEST(KvCacheTest, RefusesPositionsOutsideTheContext) {
  const auto budget = std::make_shared<KvBudget>(1 << 30);
  for (const int64_t positions :
       {int64_t{0}, int64_t{-1}, int64_t{51}, int64_t{1} << 62}) {
    const auto cache =
        KvCache::Create(SmallConfig(), KvType::kF16, positions, budget);
    EXPECT_EQ(cache.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(cache.status().message()),
                HasSubstr("context is 1 to 50"));
  }
  EXPECT_EQ(budget->used_bytes(), 0);
}

TEST(KvBudgetTest, NeverHandsOutMoreThanItHas) {
  KvBudget budget(100);
  EXPECT_FALSE(budget.TryReserve(-1));
  EXPECT_FALSE(budget.TryReserve(101));
  EXPECT_TRUE(budget.TryReserve(60));
  EXPECT_FALSE(budget.TryReserve(41));
  EXPECT_TRUE(budget.TryReserve(40));
  budget.Release(60);
  EXPECT_EQ(budget.used_bytes(), 40);
}

TEST(KvCacheTest, ExtendStopsAtTheCapacity) {
  auto cache = KvCache::Create(SmallConfig(), KvType::kF16, 20,
                               std::make_shared<KvBudget>(1 << 30));
  ASSERT_TRUE(cache.ok());
  EXPECT_TRUE((*cache)->Extend(15).ok());
  const absl::Status status = (*cache)->Extend(6);
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("6 positions after 15 exceed"));
  EXPECT_EQ((*cache)->length(), 15);
  EXPECT_TRUE((*cache)->Extend(5).ok());
  EXPECT_EQ((*cache)->length(), 20);
  (*cache)->Truncate(3);
  EXPECT_EQ((*cache)->length(), 3);
  (*cache)->Truncate(7);  // never longer
  EXPECT_EQ((*cache)->length(), 3);
}

TEST(KvCacheTest, RowsDoNotOverlapAndKeepTheirContent) {
  for (const KvType type : {KvType::kF16, KvType::kF32}) {
    const size_t row_bytes = 10 * (type == KvType::kF16 ? 2 : 4);
    auto created = KvCache::Create(SmallConfig(), type, 40,
                                   std::make_shared<KvBudget>(1 << 30));
    ASSERT_TRUE(created.ok());
    KvCache& cache = **created;
    const auto row = [&](int64_t layer, int64_t t, bool value) {
      return static_cast<uint8_t*>(value ? cache.Value(layer, t)
                                         : cache.Key(layer, t));
    };
    // Grown in steps: rows stay where they are.
    std::set<uint8_t*> begins;
    for (int64_t t = 0; t < 40; ++t) {
      ASSERT_TRUE(cache.Extend(1).ok());
      for (int64_t layer = 0; layer < 3; ++layer) {
        for (const bool value : {false, true}) {
          std::memset(row(layer, t, value), t * 6 + layer * 2 + value,
                      row_bytes);
          EXPECT_TRUE(begins.insert(row(layer, t, value)).second);
        }
      }
    }
    for (int64_t t = 0; t < 40; ++t) {
      for (int64_t layer = 0; layer < 3; ++layer) {
        for (const bool value : {false, true}) {
          for (size_t i = 0; i < row_bytes; ++i) {
            ASSERT_EQ(row(layer, t, value)[i],
                      static_cast<uint8_t>(t * 6 + layer * 2 + value));
          }
        }
      }
    }
  }
}

TEST(KvCacheTest, FitsModelsOfItsShapeOnly) {
  const Gpt2Config config = SmallConfig();
  auto cache = KvCache::Create(config, KvType::kF16, 50,
                               std::make_shared<KvBudget>(1 << 30));
  ASSERT_TRUE(cache.ok());
  EXPECT_TRUE((*cache)->Fits(config));
  for (int64_t Gpt2Config::*field :
       {&Gpt2Config::n_layer, &Gpt2Config::n_embd, &Gpt2Config::n_positions}) {
    Gpt2Config other = config;
    other.*field -= 1;
    EXPECT_FALSE((*cache)->Fits(other));
  }
}

}  // namespace
}  // namespace pot
