// An independent, slow sampler for comparison: sorts everything, sums in long
// double, follows the formulas of sampling_params.h to the letter.
#ifndef POT_TESTS_ENGINE_SAMPLING_BRUTE_FORCE_SAMPLER_H_
#define POT_TESTS_ENGINE_SAMPLING_BRUTE_FORCE_SAMPLER_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "engine/sampling/sampling_params.h"

namespace pot {

// Probabilities by id, of tokens that may be drawn.
using Distribution = std::map<int32_t, long double>;

struct BruteForceHistory {
  std::set<int32_t> seen;            // prompt and generation
  std::map<int32_t, int> generated;  // counts
};

inline void Normalize(Distribution* distribution) {
  long double total = 0;
  for (const auto& [id, p] : *distribution) total += p;
  for (auto& [id, p] : *distribution) p /= total;
}

// Keeps the first of `order` until their probabilities reach `share`. Sets
// *doubtful when rounding might decide where to cut: the sum passes within
// 1e-9 of the share (weights are rounded to 2^-40 of the largest, so sums of
// a few hundred differ by less).
inline void KeepUntil(const std::vector<int32_t>& order, long double share,
                      Distribution* distribution, bool* doubtful) {
  Distribution kept;
  long double sum = 0;
  for (const int32_t id : order) {
    const long double p = distribution->at(id);
    kept[id] = p;
    sum += p;
    if (std::fabs(sum - share) < 1e-9L) *doubtful = true;
    if (sum >= share) break;
  }
  *distribution = kept;
  Normalize(distribution);
}

// The distribution from which the next token is drawn.
inline Distribution BruteForce(const std::vector<float>& logits,
                               const SamplingParams& params,
                               const BruteForceHistory& history,
                               const std::set<int32_t>& suppressed,
                               bool* doubtful) {
  std::map<int32_t, long double> edited;
  for (size_t i = 0; i < logits.size(); ++i) {
    const int32_t id = static_cast<int32_t>(i);
    const auto contains = [&](const std::vector<int32_t>& ids) {
      return std::find(ids.begin(), ids.end(), id) != ids.end();
    };
    if (!params.allowed_ids.empty() && !contains(params.allowed_ids)) continue;
    if (contains(params.banned_ids) || suppressed.count(id)) continue;
    long double x = logits[i];
    for (const SamplingParams::Bias& bias : params.logit_bias) {
      if (bias.id == id) x += bias.bias;
    }
    if (history.seen.count(id)) {
      x = x > 0 ? x / params.repetition_penalty : x * params.repetition_penalty;
    }
    const auto generated = history.generated.find(id);
    if (generated != history.generated.end()) {
      x -= params.presence_penalty +
           static_cast<long double>(params.frequency_penalty) *
               generated->second;
    }
    edited[id] = x;
  }

  std::vector<int32_t> order;
  for (const auto& [id, x] : edited) order.push_back(id);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return edited[a] > edited[b]; });
  if (params.temperature == 0.0f) return {{order[0], 1.0L}};
  const size_t top_k = params.top_k;
  if (top_k > 0 && top_k < order.size()) order.resize(top_k);
  Distribution distribution;
  for (const int32_t id : order) {
    distribution[id] = std::exp((edited[id] - edited[order[0]]) /
                                static_cast<long double>(params.temperature));
  }
  Normalize(&distribution);

  if (params.typical_p < 1.0f) {
    long double entropy = 0;
    for (const auto& [id, p] : distribution) {
      if (p > 0) entropy -= p * std::log(p);
    }
    // Equal logits are equally far; other distances that are this near are
    // equal in all but rounding, on opposite sides of the entropy.
    const auto distance = [&](int32_t id) {
      return std::fabs(-std::log(distribution.at(id)) - entropy);
    };
    std::vector<int32_t> typical;
    for (const auto& [id, p] : distribution) typical.push_back(id);
    std::stable_sort(typical.begin(), typical.end(), [&](int32_t a, int32_t b) {
      return distance(a) < distance(b);
    });
    for (size_t i = 1; i < typical.size(); ++i) {
      if (edited[typical[i]] != edited[typical[i - 1]] &&
          distance(typical[i]) - distance(typical[i - 1]) < 1e-9L) {
        *doubtful = true;
      }
    }
    KeepUntil(typical, params.typical_p, &distribution, doubtful);
    std::erase_if(order, [&](int32_t id) { return !distribution.count(id); });
  }
  if (params.top_p < 1.0f) {
    KeepUntil(order, params.top_p, &distribution, doubtful);
  }
  if (params.min_p > 0.0f) {
    long double best = 0;
    for (const auto& [id, p] : distribution) best = std::max(best, p);
    const long double threshold = params.min_p * best;
    for (const auto& [id, p] : distribution) {
      if (p != best && std::fabs(p - threshold) < 1e-9L * best) {
        *doubtful = true;
      }
    }
    std::erase_if(distribution,
                  [&](const auto& entry) { return entry.second < threshold; });
    Normalize(&distribution);
  }
  return distribution;
}

// The id where the cumulative distribution, by ascending id, passes `u`; sets
// *doubtful when it passes within 1e-9.
inline int32_t DrawFrom(const Distribution& distribution, double u,
                        bool* doubtful) {
  long double sum = 0;
  for (const auto& [id, p] : distribution) {
    sum += p;
    if (std::fabs(sum - u) < 1e-9L) *doubtful = true;
    if (sum > u) return id;
  }
  *doubtful = true;
  return distribution.rbegin()->first;
}

}  // namespace pot

#endif  // POT_TESTS_ENGINE_SAMPLING_BRUTE_FORCE_SAMPLER_H_
