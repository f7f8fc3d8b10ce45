// The engine's promise, request by request: the bits of every row of logits
// depend on the request alone. forward_test.cc compares formats of weights;
// here one model goes through everything that may vary around a request.
#include <algorithm>
#include <iostream>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/base/xxh64.h"
#include "engine/gpt2/forward.h"
#include "gtest/gtest.h"
#include "tests/engine/gpt2/model_testing.h"

namespace pot {
namespace {

using Logits = ForwardSpan::Logits;

constexpr int64_t kPromptTokens = 52;
constexpr int64_t kNewTokens = 12;
// Parts of a prompt that are computed at once; the last is the whole.
constexpr int64_t kChunks[] = {1, 7, 16, 33, 48, kPromptTokens};
constexpr int kThreads[] = {1, 2, 3};

struct Circumstances {
  int batch = 1;  // sequences of a step, the request's included
  int threads = 1;
  int64_t chunk = kPromptTokens;
  uint32_t seed = 0;  // of the neighbours
};

std::ostream& operator<<(std::ostream& out, const Circumstances& c) {
  return out << "batch " << c.batch << ", " << c.threads
             << " threads, chunks of " << c.chunk;
}

std::unique_ptr<KvCache> MakeCache(const ModelWeights& weights) {
  return MustCreateCache(weights, KvType::kF16, weights.config.n_positions);
}

// Sequences that come, grow by tokens of any kind and go.
class Neighbours {
 public:
  Neighbours(const ModelWeights& weights, int count, uint32_t seed)
      : config_(weights.config), random_(seed), tokens_(count) {
    for (int i = 0; i < count; ++i) {
      caches_.push_back(MakeCache(weights));
    }
  }

  // Most decode a token, some run a part of a prompt. Valid until the next.
  ForwardSpan NextOf(int i) {
    int64_t count = random_() % 4 != 0 ? 1 : 2 + random_() % 9;
    if (caches_[i]->length() + count > config_.n_positions) {
      caches_[i]->Truncate(0);
      count = 1 + random_() % config_.n_positions;
    }
    tokens_[i] = RandomTokens(count, config_.vocab_size, &random_);
    return {caches_[i].get(), tokens_[i], static_cast<Logits>(random_() % 3)};
  }
  int PlaceForRequest() { return random_() % (caches_.size() + 1); }
  int size() const { return static_cast<int>(caches_.size()); }

 private:
  const Gpt2Config& config_;
  std::mt19937 random_;
  std::vector<std::unique_ptr<KvCache>> caches_;
  std::vector<std::vector<int32_t>> tokens_;
};

int64_t LogitRows(const ForwardSpan& span) {
  return span.logits == Logits::kAll    ? span.tokens.size()
         : span.logits == Logits::kLast ? 1
                                        : 0;
}

// Prefills the prompt and generates kNewTokens, the likeliest each. Returns
// the checksum of each row of logits, the prompt's included.
std::vector<uint64_t> ChecksumsOf(const ModelWeights& weights,
                                  const std::vector<int32_t>& prompt,
                                  const Circumstances& c) {
  const int64_t V = weights.config.vocab_size;
  ThreadPool pool(c.threads);
  ForwardScratch scratch;
  std::vector<float> logits;
  Neighbours neighbours(weights, c.batch - 1, c.seed);
  const auto cache = MakeCache(weights);
  std::vector<uint64_t> checksums;
  // Returns the likeliest token after `tokens`.
  const auto step = [&](absl::Span<const int32_t> tokens) {
    const int place = neighbours.PlaceForRequest();
    std::vector<ForwardSpan> spans;
    int64_t rows_before = 0;
    for (int i = 0; i < neighbours.size(); ++i) {
      spans.push_back(neighbours.NextOf(i));
      if (i < place) rows_before += LogitRows(spans.back());
    }
    spans.insert(spans.begin() + place, {cache.get(), tokens, Logits::kAll});
    const absl::Status status =
        Forward(weights, spans, &pool, &scratch, &logits);
    EXPECT_TRUE(status.ok()) << status;
    absl::Span<const float> row;
    for (size_t i = 0; i < tokens.size(); ++i) {
      row = absl::MakeConstSpan(logits).subspan((rows_before + i) * V, V);
      checksums.push_back(Xxh64(row));
    }
    return static_cast<int32_t>(std::max_element(row.begin(), row.end()) -
                                row.begin());
  };
  int32_t token = 0;
  for (int64_t at = 0; at < kPromptTokens; at += c.chunk) {
    token = step(absl::MakeConstSpan(prompt).subspan(at, c.chunk));
  }
  for (int64_t i = 0; i < kNewTokens; ++i) token = step({&token, 1});
  return checksums;
}

// Every chunking on every number of threads alone, and every batch with one of
// each, so that all occur in company.
std::vector<Circumstances> AllCircumstances() {
  std::vector<Circumstances> all;
  for (const int threads : kThreads) {
    for (const int64_t chunk : kChunks) all.push_back({1, threads, chunk, 0});
  }
  all.push_back({2, 2, 7, 1});
  all.push_back({3, 3, 33, 2});
  all.push_back({8, 1, 1, 3});
  all.push_back({17, 2, 16, 4});
  all.push_back({32, 3, kPromptTokens, 5});
  all.push_back({5, 8, 16, 2});  // more threads than heads
  return all;
}

void ExpectLogitsDependOnTheRequestAlone(const std::string& directory) {
  const auto reference_weights = MustLoad(directory, AllKernelTables().front());
  std::mt19937 random(1);
  const auto prompt = RandomTokens(
      kPromptTokens, reference_weights->config.vocab_size, &random);
  const auto reference = ChecksumsOf(*reference_weights, prompt, {});
  ASSERT_EQ(static_cast<int64_t>(reference.size()), kPromptTokens + kNewTokens);

  int64_t tables = 0;
  for (const KernelTable* kernels : AllKernelTables()) {
    if (!kernels->supported()) {
      std::cerr << "SKIPPED: this CPU cannot run " << kernels->name << "\n";
      continue;
    }
    ++tables;
    const auto weights = MustLoad(directory, kernels);
    for (const Circumstances& c : AllCircumstances()) {
      EXPECT_EQ(reference, ChecksumsOf(*weights, prompt, c))
          << kernels->name << ", " << c;
    }
  }
  EXPECT_GE(tables, 2);  // scalar and shift run everywhere
}

class RequestDeterminismTest : public testing::TestWithParam<const char*> {};

TEST_P(RequestDeterminismTest, LogitsDependOnTheRequestAlone) {
  ExpectLogitsDependOnTheRequestAlone(DeployedFile(GetParam()));
}

TEST(OutlierDeterminismTest, LogitsDependOnTheRequestAlone) {
  QuantizeModelOptions options =
      MakeModelOptions("twohot4", "g32p2", QuantizeMode::kNearest);
  options.layers.outliers = options.embedding.outliers = 0.005;
  const TempDirectory directory;
  MustQuantize(DeployedFile("models/shakespeare-char/1"), directory.path(),
               options);
  ExpectLogitsDependOnTheRequestAlone(directory.path());
}

INSTANTIATE_TEST_SUITE_P(Models, RequestDeterminismTest,
                         testing::Values("models/shakespeare-char/2",
                                         "models/shakespeare-char/3"),
                         [](const auto& test) {
                           return std::string("Version") +
                                  std::string(test.param).substr(24);
                         });

// What the test above compares notices a change of one bit.
TEST(RowChecksumTest, ChecksumsTellOtherRequestsApart) {
  const auto weights =
      MustLoad(DeployedFile("models/shakespeare-char/2"), BestKernels());
  std::mt19937 random(1);
  auto prompt =
      RandomTokens(kPromptTokens, weights->config.vocab_size, &random);
  const auto before = ChecksumsOf(*weights, prompt, {});
  constexpr int kChanged = 20;
  prompt[kChanged] = (prompt[kChanged] + 1) % weights->config.vocab_size;
  const auto after = ChecksumsOf(*weights, prompt, {});
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(before[i] == after[i], i < kChanged) << i;
  }
}

}  // namespace
}  // namespace pot
