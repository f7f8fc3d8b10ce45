#include "engine/gpt2/kv_cache.h"

#include <cstring>
#include <memory>

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

TEST(KvCacheTest, PartsDoNotOverlapAndKeepTheirContent) {
  constexpr int64_t kBlocks = 3, kPartsPerBlock = 3 * 2 * 2;
  for (const KvType type : {KvType::kF16, KvType::kF32}) {
    const size_t part_bytes =
        5 * KvCache::kBlockPositions * (type == KvType::kF16 ? 2 : 4);
    auto created = KvCache::Create(SmallConfig(), type, 40,
                                   std::make_shared<KvBudget>(1 << 30));
    ASSERT_TRUE(created.ok());
    KvCache& cache = **created;
    const auto part = [&](int64_t block, int64_t i) {
      const int64_t layer = i / 4, head = i / 2 % 2;
      return static_cast<uint8_t*>(i % 2 == 0
                                       ? cache.KeyBlock(layer, head, block)
                                       : cache.ValueBlock(layer, head, block));
    };
    // Grown in steps: blocks stay where they are.
    for (int64_t t = 0; t < 40; ++t) {
      ASSERT_TRUE(cache.Extend(1).ok());
      if (t % KvCache::kBlockPositions != 0) continue;
      const int64_t block = t / KvCache::kBlockPositions;
      for (int64_t i = 0; i < kPartsPerBlock; ++i) {
        std::memset(part(block, i), block * kPartsPerBlock + i, part_bytes);
      }
    }
    for (int64_t block = 0; block < kBlocks; ++block) {
      for (int64_t i = 0; i < kPartsPerBlock; ++i) {
        for (size_t byte = 0; byte < part_bytes; ++byte) {
          ASSERT_EQ(part(block, i)[byte], block * kPartsPerBlock + i)
              << block << " " << i;
        }
      }
    }
  }
}

TEST(KvCacheTest, CopyFromTakesOverABeginning) {
  const auto budget = std::make_shared<KvBudget>(1 << 30);
  const auto create = [&](KvType type) {
    return *KvCache::Create(SmallConfig(), type, 50, budget);
  };
  const auto from = create(KvType::kF16), to = create(KvType::kF16);
  ASSERT_TRUE(from->Extend(30).ok());
  constexpr size_t kPartBytes = 5 * KvCache::kBlockPositions * 2;
  for (int64_t block = 0; block < 2; ++block) {
    std::memset(from->KeyBlock(2, 1, block), block + 1, kPartBytes);
    std::memset(from->ValueBlock(0, 0, block), block + 101, kPartBytes);
  }
  EXPECT_EQ(to->CopyFrom(*from, 31).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(to->CopyFrom(*from, -1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create(KvType::kF32)->CopyFrom(*from, 3).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(to->length(), 0);
  ASSERT_TRUE(to->CopyFrom(*from, 20).ok());
  EXPECT_EQ(to->length(), 20);
  for (int64_t block = 0; block < 2; ++block) {
    EXPECT_EQ(std::memcmp(to->KeyBlock(2, 1, block),
                          from->KeyBlock(2, 1, block), kPartBytes),
              0);
    EXPECT_EQ(std::memcmp(to->ValueBlock(0, 0, block),
                          from->ValueBlock(0, 0, block), kPartBytes),
              0);
  }
  EXPECT_EQ(to->CopyFrom(*from, 1).code(),
            absl::StatusCode::kFailedPrecondition);
}

// Fills block b of `cache` with `value`.
void FillBlock(KvCache* cache, int64_t b, int value) {
  constexpr size_t kPartBytes = 5 * KvCache::kBlockPositions * 2;
  for (int64_t layer = 0; layer < 3; ++layer) {
    for (int64_t head = 0; head < 2; ++head) {
      std::memset(cache->KeyBlock(layer, head, b), value, kPartBytes);
      std::memset(cache->ValueBlock(layer, head, b), value, kPartBytes);
    }
  }
}

int FirstByte(const KvCache& cache, int64_t b) {
  return *static_cast<const uint8_t*>(cache.KeyBlock(1, 1, b));
}

class KvSharingTest : public testing::Test {
 protected:
  std::unique_ptr<KvCache> Create(int64_t positions,
                                  int64_t shared_blocks = 0) {
    auto cache = KvCache::Create(config_, KvType::kF16, positions, budget_,
                                 shared_blocks);
    EXPECT_TRUE(cache.ok()) << cache.status();
    return cache.ok() ? *std::move(cache) : nullptr;
  }
  int64_t UsedBlocks() const {
    EXPECT_EQ(budget_->used_bytes() % kBlockBytes, 0);
    return budget_->used_bytes() / kBlockBytes;
  }

  static constexpr int64_t kBlockBytes = 3 * 2 * 16 * 10 * 2;
  const Gpt2Config config_ = SmallConfig();
  const std::shared_ptr<KvBudget> budget_ =
      std::make_shared<KvBudget>(8 * kBlockBytes);
};

TEST_F(KvSharingTest, SharedBlocksCountOnce) {
  auto from = Create(50);  // four blocks
  EXPECT_EQ(UsedBlocks(), 4);
  ASSERT_TRUE(from->Extend(40).ok());
  EXPECT_EQ(UsedBlocks(), 4);
  auto to = Create(50, 2);
  EXPECT_EQ(UsedBlocks(), 6);
  ASSERT_TRUE(to->CopyFrom(*from, 40).ok());
  EXPECT_EQ(UsedBlocks(), 6);
  for (int64_t b = 0; b < 2; ++b) EXPECT_EQ(to->block(b), from->block(b));
  EXPECT_NE(to->block(2), from->block(2)) << "both go on writing to it";
  ASSERT_TRUE(to->Extend(10).ok());
  ASSERT_TRUE(from->Extend(10).ok());
  EXPECT_EQ(UsedBlocks(), 6);
  // What is shared stays with the one that is left.
  from.reset();
  EXPECT_EQ(UsedBlocks(), 4);
  to.reset();
  EXPECT_EQ(UsedBlocks(), 0);
}

TEST_F(KvSharingTest, MemoryReservedInVainGoesBack) {
  const auto from = Create(32);
  ASSERT_TRUE(from->Extend(32).ok());
  const auto to = Create(50);
  EXPECT_EQ(UsedBlocks(), 6);
  ASSERT_TRUE(to->Adopt({from->block(0)}).ok());
  EXPECT_EQ(to->length(), 16);
  EXPECT_EQ(UsedBlocks(), 5);
  // In place of a block of its own, which nobody else holds.
  ASSERT_TRUE(to->Extend(20).ok());
  EXPECT_EQ(UsedBlocks(), 5);
  ASSERT_TRUE(to->Adopt({from->block(0), from->block(1)}).ok());
  EXPECT_EQ(to->length(), 36);
  EXPECT_EQ(UsedBlocks(), 4);
  EXPECT_EQ(to->block(1), from->block(1));
  ASSERT_TRUE(to->Extend(14).ok());
  EXPECT_EQ(UsedBlocks(), 4);
}

TEST_F(KvSharingTest, NobodyWritesToWhatOthersHold) {
  const auto from = Create(32), to = Create(32);
  ASSERT_TRUE(from->Extend(32).ok());
  FillBlock(from.get(), 0, 1);
  FillBlock(from.get(), 1, 2);
  ASSERT_TRUE(to->CopyFrom(*from, 32).ok());
  EXPECT_EQ(UsedBlocks(), 2);
  // Back into the shared blocks, and on from there.
  to->Truncate(8);
  ASSERT_TRUE(to->Extend(24).ok());
  EXPECT_EQ(UsedBlocks(), 4);
  EXPECT_EQ(FirstByte(*to, 0), 1) << "the positions before were copied";
  FillBlock(to.get(), 0, 3);
  FillBlock(to.get(), 1, 4);
  EXPECT_EQ(FirstByte(*from, 0), 1);
  EXPECT_EQ(FirstByte(*from, 1), 2);
}

TEST_F(KvSharingTest, PromisedBlocksThatDoNotComeAreAnErrorWithoutMemory) {
  const auto cache = Create(50, 3);
  const auto rest = Create(50), last = Create(32);
  EXPECT_EQ(UsedBlocks(), 7);
  ASSERT_TRUE(cache->Extend(32).ok());
  EXPECT_EQ(UsedBlocks(), 8);
  const absl::Status status = cache->Extend(1);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("1920 bytes"));
  EXPECT_EQ(cache->length(), 32);
}

TEST_F(KvSharingTest, RefusesWhatCannotBeShared) {
  const auto cache = Create(40);
  for (const int64_t shared : {int64_t{-1}, int64_t{3}}) {
    EXPECT_EQ(KvCache::Create(config_, KvType::kF16, 40, budget_, shared)
                  .status()
                  .code(),
              absl::StatusCode::kInvalidArgument);
  }
  auto longer = Create(48);
  ASSERT_TRUE(longer->Extend(48).ok());
  EXPECT_EQ(cache->Adopt({longer->block(0), longer->block(1), longer->block(2)})
                .code(),
            absl::StatusCode::kInvalidArgument);
  longer.reset();
  auto other = KvCache::Create(config_, KvType::kF32, 16, budget_);
  ASSERT_TRUE(other.ok() && (*other)->Extend(16).ok());
  EXPECT_EQ(cache->Adopt({(*other)->block(0)}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(cache->length(), 0);
}

TEST(KvCacheTest, FitsModelsOfItsShapeOnly) {
  const Gpt2Config config = SmallConfig();
  auto cache = KvCache::Create(config, KvType::kF16, 50,
                               std::make_shared<KvBudget>(1 << 30));
  ASSERT_TRUE(cache.ok());
  EXPECT_TRUE((*cache)->Fits(config));
  for (int64_t Gpt2Config::*field :
       {&Gpt2Config::n_layer, &Gpt2Config::n_head, &Gpt2Config::n_embd,
        &Gpt2Config::n_positions}) {
    Gpt2Config other = config;
    other.*field /= 2;
    EXPECT_FALSE((*cache)->Fits(other));
  }
}

}  // namespace
}  // namespace pot
