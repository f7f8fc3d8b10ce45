#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/philox.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/sampling/brute_force_sampler.h"

namespace pot {
namespace {

using ::testing::HasSubstr;

std::vector<float> RandomLogits(int size, float deviation, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> logits(size);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

int32_t SampleId(Sampler* sampler, const std::vector<float>& logits,
                 int64_t position,
                 const std::vector<int32_t>& suppressed = {}) {
  const auto token = sampler->Sample(logits, position, 0, suppressed);
  EXPECT_TRUE(token.ok()) << token.status();
  return token.ok() ? token->id : -1;
}

// Every step, alone and together, over whole sequences, penalties included,
// against the brute-force sampler with the same random numbers.
TEST(SamplerTest, SequencesEqualBruteForce) {
  std::mt19937 random(21);
  constexpr int kVocabSize = 150;
  constexpr int kSequences = 400;
  constexpr int kLength = 25;
  const auto chance = [&](int percent) { return random() % 100 < percent; };
  const auto uniform = [&](float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(random);
  };
  const auto some_ids = [&](int count) {
    std::vector<int32_t> ids(count);
    for (int32_t& id : ids) id = random() % kVocabSize;
    return ids;
  };
  int doubtful_draws = 0;
  for (int round = 0; round < kSequences; ++round) {
    SamplingParams params;
    if (chance(30)) {
      for (const int32_t id : some_ids(5)) {
        params.logit_bias.push_back({id, uniform(-5.0f, 5.0f)});
      }
    }
    if (chance(20)) params.allowed_ids = some_ids(40);
    if (chance(30)) params.banned_ids = some_ids(20);
    if (chance(40)) params.repetition_penalty = uniform(0.5f, 3.0f);
    if (chance(40)) params.presence_penalty = uniform(-1.0f, 2.0f);
    if (chance(40)) params.frequency_penalty = uniform(-0.5f, 1.0f);
    params.temperature = chance(15) ? 0.0f : uniform(0.2f, 2.0f);
    if (chance(40)) params.top_k = 1 + random() % kVocabSize;
    if (chance(30)) params.typical_p = uniform(0.1f, 1.0f);
    if (chance(40)) params.top_p = uniform(0.1f, 1.0f);
    if (chance(30)) params.min_p = uniform(0.0f, 0.3f);
    params.seed = (static_cast<uint64_t>(random()) << 32) | random();
    if (!ValidateSamplingParams(params, kVocabSize).ok()) continue;

    const uint32_t sequence = random() % 3;
    Sampler sampler(params, kVocabSize, sequence);
    BruteForceHistory history;
    const std::vector<int32_t> prompt = some_ids(random() % 20);
    sampler.AddPrompt(prompt);
    history.seen.insert(prompt.begin(), prompt.end());
    for (int position = 0; position < kLength; ++position) {
      const std::vector<float> logits =
          RandomLogits(kVocabSize, 2.0f, random());
      const std::vector<int32_t> suppressed = some_ids(position < 5 ? 2 : 0);
      bool doubtful = false;
      const Distribution distribution =
          BruteForce(logits, params, history,
                     {suppressed.begin(), suppressed.end()}, &doubtful);
      const int32_t expected =
          DrawFrom(distribution, PhiloxUniform(params.seed, sequence, position),
                   &doubtful);
      const int32_t id = SampleId(&sampler, logits, position, suppressed);
      if (doubtful) {
        ++doubtful_draws;
      } else {
        ASSERT_EQ(id, expected) << "sequence " << round << " at " << position;
      }
      history.seen.insert(id);
      ++history.generated[id];
    }
  }
  // Rounding decides when one of a few hundred sums falls into a window of
  // 2e-9, or two distances do: once in some 1e5 draws.
  EXPECT_LE(doubtful_draws, 10);
}

// Upper 1e-6 quantile of chi-square (Wilson and Hilferty, 1931).
double ChiSquareLimit(int degrees_of_freedom) {
  constexpr double kNormalQuantile = 4.7534;
  const double a = 2.0 / (9.0 * degrees_of_freedom);
  return degrees_of_freedom *
         std::pow(1.0 - a + kNormalQuantile * std::sqrt(a), 3);
}

// Draws over positions, sequences and seeds are each as independent as a
// sample of the distribution should be.
TEST(SamplerTest, FrequenciesPassChiSquare) {
  constexpr int kDraws = 20000;
  constexpr int kVocabSize = 40;
  const std::vector<float> logits = RandomLogits(kVocabSize, 0.8f, 3);
  std::vector<SamplingParams> settings(5);
  settings[1].temperature = 0.8f;
  settings[2].top_k = 7;
  settings[3].top_p = 0.8f;
  settings[3].typical_p = 0.9f;
  settings[4].min_p = 0.1f;
  for (SamplingParams params : settings) {
    bool doubtful = false;
    const Distribution expected = BruteForce(logits, params, {}, {}, &doubtful);
    ASSERT_FALSE(doubtful);
    for (const int vary : {0, 1, 2}) {
      std::vector<int> counts(kVocabSize);
      for (int i = 0; i < kDraws; ++i) {
        params.seed = vary == 0 ? 1000 + i : 77;
        Sampler sampler(params, kVocabSize, vary == 1 ? i : 0);
        ++counts[SampleId(&sampler, logits, vary == 2 ? i : 0)];
      }
      double chi_square = 0;
      int cells = 0;
      int total = 0;
      for (const auto& [id, p] : expected) {
        const double mean = kDraws * static_cast<double>(p);
        ASSERT_GE(mean, 5.0) << "too rare for the test";
        chi_square += (counts[id] - mean) * (counts[id] - mean) / mean;
        ++cells;
        total += counts[id];
      }
      EXPECT_EQ(total, kDraws) << "a filtered token was drawn";
      EXPECT_LT(chi_square, ChiSquareLimit(cells - 1)) << "vary " << vary;
    }
  }
}

TEST(SamplerTest, ATokenDependsOnSeedSequenceAndPositionOnly) {
  const std::vector<float> logits = RandomLogits(5000, 2.0f, 4);
  SamplingParams params;
  params.seed = 42;
  std::vector<int32_t> ids;
  Sampler forward(params, 5000, 3);
  for (int i = 0; i < 50; ++i) ids.push_back(SampleId(&forward, logits, i));
  // Backwards, on another thread, between draws of another vocabulary.
  std::thread([&] {
    Sampler other({}, 9, 0);
    Sampler backward(params, 5000, 3);
    for (int i = 49; i >= 0; --i) {
      SampleId(&other, std::vector<float>(9, 1.0f), i);
      EXPECT_EQ(SampleId(&backward, logits, i), ids[i]);
    }
  }).join();
  // Chance leaves a sequence of 50 draws equal with probability < 1e-50.
  const auto differs = [&](uint64_t seed, uint32_t sequence, int shift) {
    params.seed = seed;
    Sampler sampler(params, 5000, sequence);
    for (int i = 0; i < 50; ++i) {
      if (SampleId(&sampler, logits, i + shift) != ids[i]) return true;
    }
    return false;
  };
  EXPECT_FALSE(differs(42, 3, 0));
  EXPECT_TRUE(differs(43, 3, 0));
  EXPECT_TRUE(differs(42 + (uint64_t{1} << 32), 3, 0));
  EXPECT_TRUE(differs(42, 4, 0));
  EXPECT_TRUE(differs(42, 3, 1));
}

TEST(SamplerTest, GreedyTakesTheLowestIdOnATie) {
  for (const int size : {1, 5, 8, 9, 1000}) {
    for (const int first : {0, size / 2, size - 1}) {
      std::vector<float> logits(size, -1.0f);
      for (int id = first; id < size; id += 3) logits[id] = 2.0f;
      SamplingParams params;
      params.temperature = 0.0f;
      Sampler plain(params, size, 0);
      EXPECT_EQ(SampleId(&plain, logits, 0), first) << size;
      // A bias of 0 takes the general path.
      params.logit_bias = {{0, 0.0f}};
      Sampler edited(params, size, 0);
      EXPECT_EQ(SampleId(&edited, logits, 0), first) << size;
    }
  }
}

TEST(SamplerTest, PenaltiesFollowTheirFormulas) {
  SamplingParams params;
  params.temperature = 0.0f;
  params.repetition_penalty = 2.0f;
  // 3 / 2 < 1.6; -1 * 2 < -1.5: tokens of the prompt lose.
  Sampler repetition(params, 3, 0);
  repetition.AddPrompt({0, -1, 3, 1 << 30});  // unknown ids do nothing
  EXPECT_EQ(SampleId(&repetition, {3.0f, 1.6f, -9.0f}, 0), 1);
  EXPECT_EQ(SampleId(&repetition, {-1.0f, -1.0f, -1.5f}, 1), 2);
  params.repetition_penalty = 1.0f;
  params.presence_penalty = 0.5f;
  params.frequency_penalty = 0.25f;
  // Token 0 leads by 1.1: -0.75 after one draw, -1 after two, -1.25 after 3.
  Sampler counting(params, 2, 0);
  counting.AddPrompt({0, 0, 0, 0});  // the prompt does not count here
  for (const int32_t expected : {0, 0, 0, 1}) {
    EXPECT_EQ(SampleId(&counting, {1.1f, 0.0f}, 0), expected);
  }
}

TEST(SamplerTest, RemovedTokensAreNeverDrawn) {
  const std::vector<float> logits = {9.0f, 8.0f, 7.0f, 6.0f, 5.0f};
  SamplingParams params;
  params.allowed_ids = {0, 1, 2, 3};
  params.banned_ids = {1};
  params.temperature = 100.0f;  // nearly uniform
  std::set<int32_t> drawn;
  for (int i = 0; i < 500; ++i) {
    Sampler sampler(params, 5, 0);
    drawn.insert(SampleId(&sampler, logits, i, {0, 0, -3, 77}));
  }
  EXPECT_EQ(drawn, (std::set<int32_t>{2, 3}));

  Sampler sampler(params, 5, 0);
  const auto none = sampler.Sample(logits, 0, 0, {0, 2, 3});
  EXPECT_EQ(none.status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(SamplerTest, LogprobsAgreeWithLongDouble) {
  for (const int size : {1, 2, 100, 50257}) {
    const std::vector<float> logits = RandomLogits(size, 3.0f, size);
    long double max = *std::max_element(logits.begin(), logits.end());
    long double sum = 0;
    for (const float logit : logits) sum += std::exp(logit - max);
    const long double log_sum = max + std::log(sum);
    // The float that holds it is off by half its last place.
    const auto expect_logprob = [&](int32_t id, float logprob) {
      const long double expected = logits[id] - log_sum;
      const double tolerance =
          1e-6 + std::ldexp(std::fabs(static_cast<double>(expected)), -24);
      EXPECT_NEAR(logprob, expected, tolerance) << id << " of " << size;
    };
    std::vector<int32_t> order(size);
    for (int i = 0; i < size; ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return logits[a] > logits[b];
    });

    // Bias, penalties and temperature leave logprobs alone.
    SamplingParams params;
    params.temperature = 1.7f;
    params.logit_bias = {{0, 5.0f}};
    params.repetition_penalty = 1.5f;
    Sampler sampler(params, size, 0);
    sampler.AddPrompt({0});
    const auto token = sampler.Sample(logits, 0, 20, {});
    ASSERT_TRUE(token.ok());
    expect_logprob(token->id, token->logprob);
    ASSERT_EQ(token->top.size(), static_cast<size_t>(std::min(size, 20)));
    for (size_t i = 0; i < token->top.size(); ++i) {
      EXPECT_EQ(token->top[i].id, order[i]);
      expect_logprob(order[i], token->top[i].logprob);
    }
    const SampledToken scored = LogprobOf(logits, size / 2, 0);
    EXPECT_EQ(scored.id, size / 2);
    EXPECT_TRUE(scored.top.empty());
    expect_logprob(size / 2, scored.logprob);
  }
}

TEST(SamplerTest, TopGoesByIdOnTies) {
  const SampledToken token = LogprobOf({1.0f, 3.0f, 1.0f, 3.0f, 1.0f}, 4, 4);
  ASSERT_EQ(token.top.size(), 4u);
  const int32_t expected[] = {1, 3, 0, 2};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(token.top[i].id, expected[i]);
  EXPECT_EQ(LogprobOf({1.0f, 3.0f}, 0, 20).top.size(), 2u);
  EXPECT_TRUE(LogprobOf({1.0f, 3.0f}, 0, -1).top.empty());
}

TEST(SamplerTest, BadInputIsRefusedAndNotNoted) {
  constexpr int kSize = 21;
  SamplingParams params;
  params.temperature = 0.0f;
  params.presence_penalty = 10.0f;
  Sampler sampler(params, kSize, 0);
  for (const float fault : {std::numeric_limits<float>::quiet_NaN(),
                            std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
    for (const int at : {0, 7, 8, kSize - 1}) {
      std::vector<float> logits(kSize, 1.0f);
      logits[at] = fault;
      const auto token = sampler.Sample(logits, 0, 0, {});
      EXPECT_EQ(token.status().code(), absl::StatusCode::kDataLoss);
      EXPECT_THAT(std::string(token.status().message()),
                  HasSubstr("token " + std::to_string(at) + " "));
    }
  }
  for (const int size : {0, kSize - 1, kSize + 1}) {
    const auto token = sampler.Sample(std::vector<float>(size), 0, 0, {});
    EXPECT_EQ(token.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(token.status().message()),
                HasSubstr(std::to_string(size)));
  }
  const std::vector<float> logits(kSize, 1.0f);
  EXPECT_EQ(sampler.Sample(logits, -1, 0, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
  // Nothing was noted: no token carries a penalty yet.
  EXPECT_EQ(SampleId(&sampler, logits, 0), 0);
  EXPECT_EQ(SampleId(&sampler, logits, 1), 1);
}

}  // namespace
}  // namespace pot
