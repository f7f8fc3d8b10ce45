#include "server/serving/prefix_cache.h"

#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/serving/serving_testing.h"

namespace pot {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

using Tokens = std::vector<int32_t>;

// `count` tokens from `first` on.
Tokens Count(int32_t first, int64_t count) {
  Tokens tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

Tokens operator+(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Of the tiny model: blocks of 16 positions in a budget of 12 blocks.
class PrefixCacheTest : public testing::Test {
 protected:
  static constexpr int64_t kBudgetBlocks = 12;

  void SetUp() override { ASSERT_NE(model_, nullptr); }

  int64_t BlockBytes() const {
    return KvCache::BytesFor(model_->config(), model_->kv_type, 16);
  }
  void Begin(int64_t max_blocks) {
    cache_.emplace(max_blocks * BlockBytes(), budget_);
  }

  // A sequence of that many positions, all filled.
  std::unique_ptr<KvCache> Filled(int64_t positions) {
    auto cache =
        KvCache::Create(model_->config(), model_->kv_type, positions, budget_);
    if (!cache.ok() || !(*cache)->Extend(positions).ok()) {
      ADD_FAILURE() << cache.status();
      return nullptr;
    }
    return *std::move(cache);
  }
  // Of a sequence that is gone then.
  void Insert(const Tokens& tokens) {
    const auto sequence = Filled(tokens.size());
    cache_->Insert(model_, tokens, sequence.get());
  }
  size_t Found(const Tokens& tokens) {
    return cache_->Find(model_, tokens).size();
  }
  int64_t UsedBlocks() const { return budget_->used_bytes() / BlockBytes(); }

  const std::shared_ptr<const LoadedModel> model_ = TinyModel();
  const std::shared_ptr<KvBudget> budget_ =
      std::make_shared<KvBudget>(kBudgetBlocks * BlockBytes());
  std::optional<PrefixCache> cache_;
};

TEST_F(PrefixCacheTest, FindsTheLongestBeginningInWholeBlocks) {
  Begin(10);
  const Tokens tokens = Count(0, 50);
  const auto sequence = Filled(50);
  cache_->Insert(model_, tokens, sequence.get());
  EXPECT_EQ(cache_->bytes(), 3 * BlockBytes());
  EXPECT_EQ(UsedBlocks(), 4) << "counted once";
  const auto blocks = cache_->Find(model_, tokens);
  ASSERT_THAT(blocks, SizeIs(3));
  for (int b = 0; b < 3; ++b) EXPECT_EQ(blocks[b], sequence->block(b));
  EXPECT_EQ(Found(Count(0, 47)), 2);
  EXPECT_EQ(Found(Count(0, 15)), 0);
  EXPECT_EQ(Found({}), 0);
  EXPECT_EQ(Found(Count(0, 16) + Count(0, 16)), 1);
  EXPECT_EQ(Found(Count(16, 32)), 0) << "another place in the text";
  Tokens other = tokens;
  other[20] = 0;
  EXPECT_EQ(Found(other), 1);
}

TEST_F(PrefixCacheTest, BlocksOutliveTheirSequence) {
  Begin(10);
  Insert(Count(0, 40));
  EXPECT_EQ(UsedBlocks(), 2);
  EXPECT_EQ(Found(Count(0, 40)), 2);
  cache_.reset();
  EXPECT_EQ(budget_->used_bytes(), 0);
}

TEST_F(PrefixCacheTest, BranchesShareTheirBeginning) {
  Begin(10);
  Insert(Count(0, 32));
  const auto second = Filled(48);
  EXPECT_EQ(UsedBlocks(), 5);
  cache_->Insert(model_, Count(0, 16) + Count(100, 32), second.get());
  // Its first block was here: its own is freed.
  EXPECT_EQ(UsedBlocks(), 4);
  EXPECT_EQ(second->block(0), cache_->Find(model_, Count(0, 16))[0]);
  EXPECT_EQ(second->length(), 48);
  EXPECT_EQ(cache_->bytes(), 4 * BlockBytes());
  EXPECT_EQ(Found(Count(0, 48)), 2);
  EXPECT_EQ(Found(Count(0, 16) + Count(100, 40)), 3);
}

TEST_F(PrefixCacheTest, ModelsDoNotMix) {
  Begin(10);
  Insert(Count(0, 32));
  EXPECT_THAT(cache_->Find(OtherTinyModel(), Count(0, 32)), IsEmpty());
  // The same weights by another name: another object.
  const auto again = std::shared_ptr<const LoadedModel>(
      model_.get(), [keep = model_](const LoadedModel*) {});
  EXPECT_THAT(cache_->Find(again, Count(0, 32)), IsEmpty());
}

TEST_F(PrefixCacheTest, LeastRecentlyUsedGoesFirstAndLeavesBeforeTheirParents) {
  Begin(4);
  Insert(Count(0, 32));
  Insert(Count(100, 32));
  EXPECT_EQ(Found(Count(0, 32)), 2);  // used now
  Insert(Count(200, 16));
  EXPECT_EQ(cache_->bytes(), 4 * BlockBytes());
  EXPECT_EQ(Found(Count(100, 32)), 1);
  EXPECT_EQ(Found(Count(0, 32)), 2);
  Insert(Count(150, 32));
  EXPECT_EQ(Found(Count(200, 16)), 0);
  EXPECT_EQ(Found(Count(100, 32)), 0);
  EXPECT_EQ(Found(Count(0, 32)), 2);
  EXPECT_EQ(Found(Count(150, 32)), 2);
  EXPECT_EQ(UsedBlocks(), 4);
}

TEST_F(PrefixCacheTest, KeepsTheBeginningOfWhatIsLongerThanItsShare) {
  Begin(2);
  Insert(Count(200, 16));
  Insert(Count(0, 64));
  EXPECT_EQ(Found(Count(0, 64)), 2);
  EXPECT_EQ(UsedBlocks(), 2);
}

TEST_F(PrefixCacheTest, MakesRoomButNotOfWhatRuns) {
  Begin(10);
  Insert(Count(0, 32));
  Insert(Count(100, 32));
  const auto running = Filled(64);
  cache_->Insert(model_, Count(50, 64), running.get());
  ASSERT_EQ(UsedBlocks(), 8);
  EXPECT_TRUE(cache_->MakeRoom(4 * BlockBytes()));
  EXPECT_EQ(UsedBlocks(), 8) << "there was room";
  EXPECT_FALSE(cache_->MakeRoom(9 * BlockBytes()));
  EXPECT_EQ(UsedBlocks(), 8) << "in vain, so nothing was freed";
  EXPECT_TRUE(cache_->MakeRoom(5 * BlockBytes()));
  EXPECT_EQ(UsedBlocks(), 7);
  EXPECT_EQ(Found(Count(0, 32)), 1);
  const PrefixCache::Blocks held = cache_->Find(model_, Count(100, 32));
  EXPECT_FALSE(cache_->MakeRoom(7 * BlockBytes())) << "held by us";
  EXPECT_TRUE(cache_->MakeRoom(6 * BlockBytes()));
  EXPECT_EQ(Found(Count(0, 32)), 0);
  EXPECT_EQ(Found(Count(100, 32)), 2);
  EXPECT_EQ(Found(Count(50, 64)), 4);
}

TEST_F(PrefixCacheTest, NothingIsKeptWithoutAShare) {
  Begin(0);
  Insert(Count(0, 32));
  EXPECT_EQ(Found(Count(0, 32)), 0);
  EXPECT_EQ(budget_->used_bytes(), 0);
}

TEST_F(PrefixCacheTest, ModelsThatAreGoneLeaveNothing) {
  Begin(10);
  Insert(Count(0, 32));
  auto gone = QuantizedTinyModel("pot2");
  ASSERT_NE(gone, nullptr);
  const auto sequence = Filled(64);
  cache_->Insert(gone, Count(0, 48), sequence.get());
  cache_->DropUnloaded();
  EXPECT_EQ(cache_->bytes(), 5 * BlockBytes());
  gone.reset();
  cache_->DropUnloaded();
  EXPECT_EQ(cache_->bytes(), 2 * BlockBytes());
  EXPECT_EQ(Found(Count(0, 32)), 2);
}

// A number that tells what `tokens` begin with, block by block.
int Digest(const Tokens& tokens, int64_t block) {
  uint32_t digest = 17;
  for (int64_t i = 0; i < (block + 1) * 16; ++i) {
    digest = digest * 31 + static_cast<uint32_t>(tokens[i]);
  }
  return static_cast<int>(digest >> 24);
}

TEST_F(PrefixCacheTest, AnyUseKeepsToTheBudgetAndToTheTokens) {
  Begin(7);
  std::mt19937 random(5);
  const auto below = [&](int bound) {
    return static_cast<int>(random() % static_cast<uint32_t>(bound));
  };
  struct Running {
    Tokens tokens;
    std::unique_ptr<KvCache> cache;
  };
  std::vector<Running> running;
  int64_t found = 0, admitted = 0;
  for (int step = 0; step < 3000; ++step) {
    if (!running.empty() && below(3) == 0) {
      running.erase(running.begin() + below(static_cast<int>(running.size())));
    }
    // Few beginnings, each of up to four blocks.
    Tokens tokens;
    const int blocks = 1 + below(4);
    for (int b = 0; b < blocks; ++b) {
      tokens = std::move(tokens) + Count(100 * below(2), 16);
    }
    const PrefixCache::Blocks cached = cache_->Find(model_, tokens);
    const int64_t shared = static_cast<int64_t>(cached.size());
    int64_t held = 0;  // by anybody but the cache alone
    {
      std::set<const KvBlock*> distinct;
      for (const Running& r : running) {
        for (int64_t b = 0; b < r.cache->length() / 16; ++b) {
          distinct.insert(r.cache->block(b).get());
        }
      }
      for (const auto& block : cached) distinct.insert(block.get());
      held = static_cast<int64_t>(distinct.size());
    }
    const bool room = cache_->MakeRoom((blocks - shared) * BlockBytes());
    ASSERT_EQ(room, held + blocks - shared <= kBudgetBlocks);
    if (!room) continue;
    auto created = KvCache::Create(model_->config(), model_->kv_type,
                                   blocks * 16, budget_, shared);
    ASSERT_TRUE(created.ok()) << created.status();
    KvCache& cache = **created;
    ASSERT_TRUE(cache.Adopt(cached).ok());
    ASSERT_TRUE(cache.Extend(blocks * 16 - cache.length()).ok());
    for (int64_t b = 0; b < blocks; ++b) {
      auto* key = static_cast<uint8_t*>(cache.KeyBlock(0, 0, b));
      if (b >= shared) *key = static_cast<uint8_t>(Digest(tokens, b));
      ASSERT_EQ(*key, Digest(tokens, b));
    }
    if (below(4) != 0) cache_->Insert(model_, tokens, &cache);
    found += shared;
    ++admitted;
    running.push_back({std::move(tokens), *std::move(created)});
    for (const Running& r : running) {
      const KvCache& whole = *r.cache;
      for (int64_t b = 0; b < whole.length() / 16; ++b) {
        ASSERT_EQ(*static_cast<const uint8_t*>(whole.KeyBlock(0, 0, b)),
                  Digest(r.tokens, b));
      }
    }
    ASSERT_LE(cache_->bytes(), 7 * BlockBytes());
    ASSERT_LE(UsedBlocks(), kBudgetBlocks);
  }
  EXPECT_GT(found, 500);
  EXPECT_GT(admitted, 1000);
  running.clear();
  EXPECT_EQ(budget_->used_bytes(), cache_->bytes());
}

TEST_F(PrefixCacheTest, FloatModelsAreNotCached) {
  const auto model = QuantizedTinyModel("pot2");
  ASSERT_NE(model, nullptr);
  // Nobody else has the model, and its parts were not made const.
  const_cast<ModelWeights*>(model->weights.get())->quantized = false;
  Begin(10);
  const auto sequence = Filled(32);
  cache_->Insert(model, Count(0, 32), sequence.get());
  EXPECT_EQ(cache_->bytes(), 0);
  EXPECT_THAT(cache_->Find(model, Count(0, 32)), IsEmpty());
}

}  // namespace
}  // namespace pot
