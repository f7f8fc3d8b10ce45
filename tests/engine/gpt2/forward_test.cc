#include "engine/gpt2/forward.h"

#include <cstring>
#include <limits>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/gpt2/model_testing.h"

namespace pot {
namespace {

using Logits = ForwardSpan::Logits;
using testing::HasSubstr;

// Feeds `tokens` in chunks to a fresh cache, each chunk at a random place of a
// batch of `batch` sequences of random history and length. Returns the logits
// of all tokens.
std::vector<float> LogitsInCompany(const ModelWeights& weights,
                                   const std::vector<int32_t>& tokens,
                                   int64_t chunk, int batch, int threads,
                                   std::mt19937* random) {
  const int64_t V = weights.config.vocab_size;
  const int64_t T = weights.config.n_positions;
  ThreadPool pool(threads);
  ForwardScratch scratch;
  const auto cache = MustCreateCache(weights, KvType::kF16, tokens.size());
  std::vector<float> result, logits;
  for (size_t at = 0; at < tokens.size(); at += chunk) {
    const int place = (*random)() % batch;
    std::vector<std::unique_ptr<KvCache>> others;
    std::vector<std::vector<int32_t>> other_tokens(batch);
    std::vector<ForwardSpan> spans;
    int64_t rows_before = 0;
    for (int i = 0; i < batch; ++i) {
      if (i == place) {
        spans.push_back({cache.get(),
                         absl::MakeConstSpan(tokens).subspan(at, chunk),
                         Logits::kAll});
        continue;
      }
      others.push_back(MustCreateCache(weights, KvType::kF16, T));
      other_tokens[i] = RandomTokens(1 + (*random)() % 3, V, random);
      const auto history = RandomTokens(1 + (*random)() % 3, V, random);
      const ForwardSpan past = {others.back().get(), history, Logits::kNone};
      EXPECT_TRUE(Forward(weights, {past}, &pool, &scratch, &logits).ok());
      const Logits wanted = static_cast<Logits>((*random)() % 3);
      spans.push_back({others.back().get(), other_tokens[i], wanted});
      if (i < place) {
        rows_before += wanted == Logits::kAll    ? other_tokens[i].size()
                       : wanted == Logits::kLast ? 1
                                                 : 0;
      }
    }
    EXPECT_TRUE(Forward(weights, spans, &pool, &scratch, &logits).ok());
    const int64_t rows = spans[place].tokens.size();
    const auto begin = logits.begin() + rows_before * V;
    result.insert(result.end(), begin, begin + rows * V);
  }
  return result;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class DeterminismTest : public testing::TestWithParam<const char*> {};

// The engine's promise: a sequence's logits are bitwise the same in any batch,
// chunking, on any number of threads and with every kernel table.
TEST_P(DeterminismTest, LogitsDependOnTheSequenceAlone) {
  // Rows of 96 and 160 weights: g64 leaves a shorter last group.
  const bool grouped = std::string(GetParam()) == "twohot4";
  TempDirectory directory;
  MustQuantize(TinyBpeDirectory(), directory.path(),
               MakeModelOptions(GetParam(), grouped ? "g64" : "row",
                                QuantizeMode::kNearest));
  std::mt19937 random(1);
  const auto reference_weights =
      MustLoad(directory.path(), AllKernelTables().front());
  // Two tiles of queries, two blocks of keys.
  const auto tokens =
      RandomTokens(20, reference_weights->config.vocab_size, &random);
  const std::vector<float> reference =
      LogitsInCompany(*reference_weights, tokens, 20, 1, 1, &random);

  int64_t tables = 0;
  for (const KernelTable* kernels : AllKernelTables()) {
    if (!kernels->supported()) continue;
    ++tables;
    const auto weights = MustLoad(directory.path(), kernels);
    int batch = 0;  // 1..8 in turn
    for (const int threads : {1, 2, 3}) {
      for (const int64_t chunk : {1, 3, 20}) {
        batch = batch % 8 + 1;
        EXPECT_TRUE(SameBits(
            reference,
            LogitsInCompany(*weights, tokens, chunk, batch, threads, &random)))
            << kernels->name << ", chunks of " << chunk << ", batch " << batch
            << ", " << threads << " threads";
      }
    }
  }
  EXPECT_GE(tables, 2);  // scalar and shift run everywhere
}

INSTANTIATE_TEST_SUITE_P(Formats, DeterminismTest,
                         testing::Values("pot4", "twohot4", "pot6"),
                         [](const auto& test) { return test.param; });

// With float weights only the matrix products may round differently.
TEST(ForwardTest, Fp32ChunksAgree) {
  const auto weights = MustLoad(TinyBpeDirectory(), BestKernels());
  std::mt19937 random(2);
  const auto tokens = RandomTokens(40, weights->config.vocab_size, &random);
  const auto whole = LogitsInCompany(*weights, tokens, 40, 1, 1, &random);
  const auto pieces = LogitsInCompany(*weights, tokens, 3, 4, 2, &random);
  ASSERT_EQ(whole.size(), pieces.size());
  // Logits reach 11. Sums of 96 products in another order err by about 1e-6;
  // a key or value on the edge between two halfs may then round the other
  // way, by 2^-11 of itself, and reach the logits through one softmax weight.
  for (size_t i = 0; i < whole.size(); ++i) {
    ASSERT_NEAR(whole[i], pieces[i], 0.02) << i;
  }
}

class ForwardErrorTest : public testing::Test {
 protected:
  absl::Status Run(std::vector<ForwardSpan> spans) {
    return Forward(*weights_, spans, &pool_, &scratch_, &logits_);
  }

  std::unique_ptr<const ModelWeights> weights_ =
      MustLoad(TinyBpeDirectory(), BestKernels());
  std::unique_ptr<KvCache> a_ = MustCreateCache(*weights_, KvType::kF32, 10);
  std::unique_ptr<KvCache> b_ = MustCreateCache(*weights_, KvType::kF32, 10);
  ThreadPool pool_{1};
  ForwardScratch scratch_;
  std::vector<float> logits_;
};

TEST_F(ForwardErrorTest, EverySpanIsCheckedBeforeAnyCacheChanges) {
  const std::vector<int32_t> good = {1, 2, 3};
  const std::vector<int32_t> six = {1, 2, 3, 4, 5, 6};
  ASSERT_TRUE(Run({{a_.get(), good}, {b_.get(), six}}).ok());

  struct Case {
    ForwardSpan second;
    absl::StatusCode code;
    const char* message;
  };
  const std::vector<int32_t> negative = {5, -1}, beyond = {5, 299, 300};
  const std::vector<int32_t> five = {1, 2, 3, 4, 5};
  Gpt2Config other = weights_->config;
  other.n_embd *= 2;
  const auto foreign = KvCache::Create(other, KvType::kF32, 10,
                                       std::make_shared<KvBudget>(1 << 20));
  ASSERT_TRUE(foreign.ok());
  for (const Case& c : std::vector<Case>{
           {{b_.get(), {}}, absl::StatusCode::kInvalidArgument, "no tokens"},
           {{b_.get(), negative},
            absl::StatusCode::kInvalidArgument,
            "token 1 is -1, the vocabulary is 0 to 299"},
           {{b_.get(), beyond},
            absl::StatusCode::kInvalidArgument,
            "token 2 is 300"},
           {{b_.get(), five},
            absl::StatusCode::kOutOfRange,
            "5 tokens after 6 exceed the sequence's capacity of 10"},
           {{a_.get(), good}, absl::StatusCode::kInvalidArgument, "twice"},
           {{nullptr, good}, absl::StatusCode::kInvalidArgument, "KV cache"},
           {{foreign->get(), good},
            absl::StatusCode::kInvalidArgument,
            "shape"},
       }) {
    const absl::Status status = Run({{a_.get(), good}, c.second});
    EXPECT_EQ(status.code(), c.code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
    EXPECT_EQ(a_->length(), 3);
    EXPECT_EQ(b_->length(), 6);
  }
}

TEST_F(ForwardErrorTest, RowsAreThoseAskedFor) {
  const std::vector<int32_t> tokens = {7, 8, 9};
  const size_t V = weights_->config.vocab_size;
  ASSERT_TRUE(Run({}).ok());
  EXPECT_TRUE(logits_.empty());
  ASSERT_TRUE(Run({{a_.get(), tokens, Logits::kNone}}).ok());
  EXPECT_TRUE(logits_.empty());
  EXPECT_EQ(a_->length(), 3);
  ASSERT_TRUE(
      Run({{a_.get(), tokens, Logits::kLast}, {b_.get(), tokens, Logits::kAll}})
          .ok());
  EXPECT_EQ(logits_.size(), 4 * V);
}

// A sequence taken back to an earlier length goes on as if the rest had never
// been there.
TEST_F(ForwardErrorTest, TruncateForgets) {
  const std::vector<int32_t> prefix = {1, 2, 3}, wrong = {200, 201},
                             right = {4};
  ASSERT_TRUE(Run({{a_.get(), prefix}}).ok());
  ASSERT_TRUE(Run({{a_.get(), wrong}}).ok());
  a_->Truncate(3);
  ASSERT_TRUE(Run({{a_.get(), right}}).ok());
  const std::vector<float> truncated = logits_;
  ASSERT_TRUE(Run({{b_.get(), prefix}}).ok());
  ASSERT_TRUE(Run({{b_.get(), right}}).ok());
  EXPECT_TRUE(SameBits(truncated, logits_));
}

}  // namespace
}  // namespace pot
