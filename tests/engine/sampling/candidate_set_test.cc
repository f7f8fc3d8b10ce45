#include "engine/sampling/candidate_set.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "engine/sampling/sampling_params.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/sampling/brute_force_sampler.h"

namespace pot {
namespace {

using ::testing::ElementsAre;

std::vector<int32_t> Ids(const CandidateSet& candidates) {
  return {candidates.ids().begin(), candidates.ids().end()};
}

std::vector<int32_t> Ids(const Distribution& distribution) {
  std::vector<int32_t> ids;
  for (const auto& [id, p] : distribution) ids.push_back(id);
  return ids;
}

CandidateSet Filtered(const std::vector<float>& logits,
                      const SamplingParams& params) {
  CandidateSet candidates;
  candidates.Reset(logits);
  if (params.top_k > 0) candidates.KeepTopK(params.top_k);
  candidates.ApplyTemperature(params.temperature);
  if (params.typical_p < 1.0f) candidates.KeepTypical(params.typical_p);
  if (params.top_p < 1.0f) candidates.KeepTopP(params.top_p);
  if (params.min_p > 0.0f) candidates.KeepMinP(params.min_p);
  return candidates;
}

// Compares the sets that survive; returns how many comparisons were left out
// because rounding decides them.
int CompareWithBruteForce(const std::vector<SamplingParams>& filters) {
  std::mt19937 random(11);
  int doubtful_cases = 0;
  for (const SamplingParams& params : filters) {
    for (int round = 0; round < 60; ++round) {
      std::normal_distribution<float> normal(0.0f, 0.5f + round % 5);
      std::vector<float> logits(1 + random() % 400);
      for (float& logit : logits) {
        logit = normal(random);
        // Every other round has many equal logits.
        if (round % 2 == 1) logit = std::round(logit);
      }
      bool doubtful = false;
      const Distribution expected =
          BruteForce(logits, params, {}, {}, &doubtful);
      if (doubtful) {
        ++doubtful_cases;
        continue;
      }
      EXPECT_EQ(Ids(Filtered(logits, params)), Ids(expected))
          << "round " << round << ", top_k " << params.top_k << ", typical_p "
          << params.typical_p << ", top_p " << params.top_p << ", min_p "
          << params.min_p << ", temperature " << params.temperature;
    }
  }
  return doubtful_cases;
}

TEST(CandidateSetTest, TopKIsWhatSortingGives) {
  std::vector<SamplingParams> filters;
  for (const int k : {1, 2, 3, 17, 100, 399, 400, 100000}) {
    SamplingParams params;
    params.top_k = k;
    filters.push_back(params);
  }
  EXPECT_EQ(CompareWithBruteForce(filters), 0);
}

TEST(CandidateSetTest, TopPIsWhatSortingGives) {
  std::vector<SamplingParams> filters;
  for (const float p : {1e-6f, 0.1f, 0.5f, 0.9f, 0.999f}) {
    for (const float temperature : {0.3f, 1.0f, 20.0f}) {
      SamplingParams params;
      params.top_p = p;
      params.temperature = temperature;
      filters.push_back(params);
    }
  }
  // A few exact hits of the share are expected with equal logits.
  EXPECT_LE(CompareWithBruteForce(filters), 20);
}

TEST(CandidateSetTest, TypicalIsWhatSortingGives) {
  std::vector<SamplingParams> filters;
  for (const float p : {1e-6f, 0.2f, 0.5f, 0.95f}) {
    for (const float temperature : {0.3f, 1.0f, 20.0f}) {
      SamplingParams params;
      params.typical_p = p;
      params.temperature = temperature;
      filters.push_back(params);
    }
  }
  EXPECT_LE(CompareWithBruteForce(filters), 20);
}

TEST(CandidateSetTest, MinPIsWhatTheFormulaGives) {
  std::vector<SamplingParams> filters;
  for (const float p : {0.001f, 0.05f, 0.3f, 1.0f}) {
    for (const float temperature : {0.3f, 1.0f, 20.0f}) {
      SamplingParams params;
      params.min_p = p;
      params.temperature = temperature;
      filters.push_back(params);
    }
  }
  EXPECT_LE(CompareWithBruteForce(filters), 20);
}

TEST(CandidateSetTest, FiltersTogetherInTheDocumentedOrder) {
  std::vector<SamplingParams> filters;
  for (const int k : {5, 50, 200}) {
    for (const float p : {0.3f, 0.8f}) {
      SamplingParams params;
      params.top_k = k;
      params.typical_p = 1.1f - p;
      params.top_p = p;
      params.min_p = 0.02f;
      params.temperature = 0.8f;
      filters.push_back(params);
    }
  }
  EXPECT_LE(CompareWithBruteForce(filters), 20);
}

TEST(CandidateSetTest, EqualLogitsGoByIdInEveryFilter) {
  const std::vector<float> equal(5000, 1.5f);
  CandidateSet candidates;
  candidates.Reset(equal);
  EXPECT_EQ(candidates.Best(), 0);
  candidates.KeepTopK(4);
  EXPECT_THAT(Ids(candidates), ElementsAre(0, 1, 2, 3));
  candidates.ApplyTemperature(1.0f);
  candidates.KeepTypical(0.75f);
  EXPECT_THAT(Ids(candidates), ElementsAre(0, 1, 2));
  candidates.KeepTopP(0.5f);
  EXPECT_THAT(Ids(candidates), ElementsAre(0, 1));
  candidates.KeepMinP(1.0f);
  EXPECT_THAT(Ids(candidates), ElementsAre(0, 1));
  EXPECT_EQ(candidates.Draw(0.0), 0);
  EXPECT_EQ(candidates.Draw(0.49999), 0);
  EXPECT_EQ(candidates.Draw(0.5), 1);
  EXPECT_EQ(candidates.Draw(0x1.fffffffffffffp-1), 1);
}

// One token at 0.4 and 60 at 0.01 each: the entropy is 3.13 nats, nearer to the
// others' surprise (4.61) than to the first's (0.92).
TEST(CandidateSetTest, TypicalMayDropTheMostProbable) {
  std::vector<float> logits(61, std::log(0.01f));
  logits[7] = std::log(0.4f);
  CandidateSet candidates;
  candidates.Reset(logits);
  candidates.ApplyTemperature(1.0f);
  candidates.KeepTypical(0.295f);
  EXPECT_EQ(candidates.size(), 30u);
  EXPECT_EQ(std::count(candidates.ids().begin(), candidates.ids().end(), 7), 0);
}

TEST(CandidateSetTest, ExtremeLogitsNeitherOverflowNorEmptyTheSet) {
  const float max = std::numeric_limits<float>::max();
  const float tiny = std::numeric_limits<float>::denorm_min();
  for (const float temperature : {tiny, 1.0f, 100.0f}) {
    SamplingParams params;
    params.temperature = temperature;
    params.top_k = 4;
    params.typical_p = params.top_p = 0.5f;
    params.min_p = 0.5f;
    const std::vector<float> logits = {-max, tiny, 0.0f, max, 1.0f, -max};
    EXPECT_THAT(Ids(Filtered(logits, params)), ElementsAre(3));
    CandidateSet one = Filtered({-max}, params);
    EXPECT_EQ(one.Draw(0.5), 0);
    // Differences that no histogram can resolve.
    EXPECT_FALSE(Filtered({0.0f, tiny, -tiny, tiny, 0.0f}, params).empty());
  }
}

TEST(CandidateSetTest, RemoveAndKeepOnly) {
  CandidateSet candidates;
  candidates.Reset({0.0f, 1.0f, 2.0f, 3.0f, 4.0f});
  candidates.logit(3) += 10.0;
  EXPECT_EQ(candidates.Best(), 3);
  candidates.KeepOnly({-5, 0, 2, 2, 3, 9});
  EXPECT_THAT(Ids(candidates), ElementsAre(0, 2, 3));
  candidates.Remove({-1, 1, 3, 3, 7});
  EXPECT_THAT(Ids(candidates), ElementsAre(0, 2));
  EXPECT_EQ(candidates.Best(), 2);
  candidates.Remove({0, 2});
  EXPECT_TRUE(candidates.empty());
}

// The chance of each id, read off Draw() by bisection, against exp in long
// double. Weights are rounded to 2^-41 of the largest and the sum of 200 adds
// up to 200 * 2^-41 = 1e-10; bisection and u's rounding are far below.
TEST(CandidateSetTest, DrawInvertsTheCumulativeDistribution) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0f, 4.0f);
  std::vector<float> logits(200);
  for (float& logit : logits) logit = normal(random);
  SamplingParams params;
  params.temperature = 0.7f;
  bool doubtful = false;
  const Distribution expected = BruteForce(logits, params, {}, {}, &doubtful);
  const CandidateSet candidates = Filtered(logits, params);
  long double cumulative = 0;
  for (const auto& [id, p] : expected) {
    cumulative += p;
    double low = 0.0, high = 1.0;  // Draw(low) <= id < Draw(high)
    if (id == 199) break;
    for (int i = 0; i < 60; ++i) {
      const double middle = 0.5 * (low + high);
      (candidates.Draw(middle) <= id ? low : high) = middle;
    }
    EXPECT_NEAR(high, cumulative, 2e-10) << id;
  }
}

}  // namespace
}  // namespace pot
