#include "engine/sampling/candidate_set.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "engine/kernels/float_math.h"
#include "engine/kernels/kernel_table.h"

namespace pot {

static_assert(uint64_t{CandidateSet::kMaxVocabSize} <=
              uint64_t{1} << (63 - kSamplingWeightBits));

namespace {

// Smallest whole number that is at least share * total, in [1, total].
uint64_t TargetMass(float share, uint64_t total) {
  const double mass =
      std::ceil(static_cast<double>(share) * static_cast<double>(total));
  return std::clamp<uint64_t>(static_cast<uint64_t>(mass), 1, total);
}

double MaxOf(absl::Span<const double> values) {
  constexpr size_t kLanes = 4;
  double lanes[kLanes];
  std::fill_n(lanes, kLanes, values[0]);
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) {
      const double x = values[i + j];
      lanes[j] = x > lanes[j] ? x : lanes[j];
    }
  }
  for (; i < values.size(); ++i) lanes[0] = std::max(lanes[0], values[i]);
  return *std::max_element(lanes, lanes + kLanes);
}

}  // namespace

void CandidateSet::Reset(absl::Span<const float> logits) {
  ids_.resize(logits.size());
  std::iota(ids_.begin(), ids_.end(), 0);
  values_.assign(logits.begin(), logits.end());
  weights_.clear();
}

template <typename Predicate>
void CandidateSet::Compact(const Predicate& keep) {
  size_t kept = 0;
  for (size_t i = 0; i < ids_.size(); ++i) {
    // Written always, counted when kept: no branch to mispredict. Predicates
    // look at no candidate before i.
    const bool is_kept = keep(i);
    ids_[kept] = ids_[i];
    values_[kept] = values_[i];
    if (!weights_.empty()) weights_[kept] = weights_[i];
    kept += is_kept;
  }
  ids_.resize(kept);
  values_.resize(kept);
  if (!weights_.empty()) weights_.resize(kept);
}

void CandidateSet::Remove(absl::Span<const int32_t> ids) {
  if (ids.empty()) return;
  size_t next = 0;
  Compact([&](size_t i) {
    while (next < ids.size() && ids[next] < ids_[i]) ++next;
    return next == ids.size() || ids[next] != ids_[i];
  });
}

void CandidateSet::KeepOnly(absl::Span<const int32_t> ids) {
  size_t next = 0;
  Compact([&](size_t i) {
    while (next < ids.size() && ids[next] < ids_[i]) ++next;
    return next < ids.size() && ids[next] == ids_[i];
  });
}

int32_t CandidateSet::Best() const {
  return ids_[std::max_element(values_.begin(), values_.end()) -
              values_.begin()];
}

void CandidateSet::KeepTopK(int32_t k) {
  if (static_cast<size_t>(k) >= size()) return;
  const double max = MaxOf(values_);
  keys_.resize(size());
  for (size_t i = 0; i < size(); ++i) keys_[i] = max - values_[i];
  KeepPrefix(/*unit_mass=*/true, static_cast<uint64_t>(k), MaxOf(keys_));
}

void CandidateSet::ApplyTemperature(float temperature) {
  const double max = MaxOf(values_);
  weights_.resize(size());
  SamplingWeights(values_.data(), static_cast<int64_t>(size()), max,
                  temperature, weights_.data());
}

// With total weight Z and mean deficit m, -log p_i = log Z + deficit_i and the
// entropy is log Z + m, so their distance is |deficit_i - m|. The mean is
// summed in whole numbers too; weight * deficit <= 2^kSamplingWeightBits / e.
void CandidateSet::KeepTypical(float p) {
  uint64_t weighted = 0;
  for (size_t i = 0; i < size(); ++i) {
    const double weight = static_cast<double>(weights_[i]);
    weighted += static_cast<int64_t>(weight * values_[i] + 0.5);
  }
  const uint64_t total = TotalWeight();
  const double mean =
      static_cast<double>(weighted) / static_cast<double>(total);
  keys_.resize(size());
  for (size_t i = 0; i < size(); ++i) {
    keys_[i] = std::abs(values_[i] - mean);
  }
  KeepPrefix(/*unit_mass=*/false, TargetMass(p, total), kNegligibleDeficit);
}

void CandidateSet::KeepTopP(float p) {
  keys_.assign(values_.begin(), values_.end());
  KeepPrefix(/*unit_mass=*/false, TargetMass(p, TotalWeight()),
             kNegligibleDeficit);
}

void CandidateSet::KeepMinP(float p) {
  const uint64_t best = *std::max_element(weights_.begin(), weights_.end());
  const double threshold = static_cast<double>(p) * static_cast<double>(best);
  Compact(
      [&](size_t i) { return static_cast<double>(weights_[i]) >= threshold; });
}

int32_t CandidateSet::Draw(double u) const {
  const uint64_t total = TotalWeight();
  const uint64_t point = std::min(
      static_cast<uint64_t>(u * static_cast<double>(total)), total - 1);
  uint64_t sum = 0;
  size_t i = 0;
  while ((sum += weights_[i]) <= point) ++i;
  return ids_[i];
}

uint64_t CandidateSet::TotalWeight() const {
  return std::accumulate(weights_.begin(), weights_.end(), uint64_t{0});
}

void CandidateSet::KeepPrefix(bool unit_mass, uint64_t target,
                              double key_limit) {
  const auto mass = [&](size_t i) { return unit_mass ? 1 : weights_[i]; };
  // A histogram over the keys finds the bucket where the target is reached;
  // only that bucket's candidates are looked at one by one.
  constexpr int kBuckets = 1024;
  const double limit = std::min(MaxOf(keys_), key_limit);
  // Nearly equal keys share one bucket, lest the scale overflow.
  const double scale = limit > 1e-290 ? (kBuckets - 1) / limit : 0.0;
  const auto bucket_of = [&](size_t i) {
    return static_cast<int>(std::min(keys_[i], limit) * scale);
  };
  std::array<uint64_t, kBuckets> histogram = {};
  for (size_t i = 0; i < size(); ++i) histogram[bucket_of(i)] += mass(i);
  uint64_t reached = 0;
  int boundary = 0;
  while (reached + histogram[boundary] < target) {
    reached += histogram[boundary++];
  }
  boundary_.clear();
  for (size_t i = 0; i < size(); ++i) {
    if (bucket_of(i) == boundary) boundary_.push_back(i);
  }

  // Halves the bucket until one candidate is left: the last one to keep.
  const auto before = [&](uint32_t a, uint32_t b) {
    return keys_[a] != keys_[b] ? keys_[a] < keys_[b] : a < b;
  };
  auto begin = boundary_.begin();
  auto end = boundary_.end();
  while (end - begin > 1) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, before);
    uint64_t lower_half = 0;
    for (auto it = begin; it != middle; ++it) lower_half += mass(*it);
    if (reached + lower_half >= target) {
      end = middle;
    } else {
      reached += lower_half;
      begin = middle;
    }
  }
  const uint32_t last = *begin;
  const double last_key = keys_[last];
  Compact([&](size_t i) {
    return keys_[i] < last_key || (keys_[i] == last_key && i <= last);
  });
}

}  // namespace pot
