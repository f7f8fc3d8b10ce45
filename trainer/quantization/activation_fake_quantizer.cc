#include "trainer/quantization/activation_fake_quantizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/quant/activation.h"
#include "trainer/base/multiversion.h"

namespace pot {
namespace {

constexpr int kLanes = 16;
// Fewer values than these are not worth waking threads for.
constexpr int64_t kParallel = 1 << 14;

struct Interval {
  float low = 0.0f;   // min(x, 0)
  float high = 0.0f;  // max(x, 0)
};

POT_MULTIVERSION
Interval IntervalOf(const float* x, int64_t count) {
  float low[kLanes] = {};
  float high[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const float value = x[i + lane];
      low[lane] = value < low[lane] ? value : low[lane];
      high[lane] = value > high[lane] ? value : high[lane];
    }
  }
  for (; i < count; ++i) {
    low[0] = std::min(low[0], x[i]);
    high[0] = std::max(high[0], x[i]);
  }
  return {*std::min_element(low, low + kLanes),
          *std::max_element(high, high + kLanes)};
}

// x = scale * (a - zero_point) with a as ActivationStep defines it. The zero
// point cancels: a - zero_point is the rounded integer itself.
POT_MULTIVERSION
void RoundToStep(const ActivationStep& step, float* x, int64_t count) {
  // Adding and taking away 1.5 * 2^23 rounds |n| < 2^22 half to even.
  constexpr float kMagic = 12582912.0f;
  const float scale = step.scale.scale, inverse = step.inverse;
  const float low = step.low, high = step.high;
  for (int64_t i = 0; i < count; ++i) {
    float n = x[i] * inverse;
    n = n < high ? n : high;
    n = n > low ? n : low;
    x[i] = scale * ((n + kMagic) - kMagic);
  }
}

POT_MULTIVERSION
void MarkInside(const float* x, int64_t count, Interval range,
                uint8_t* inside) {
  for (int64_t i = 0; i < count; ++i) {
    inside[i] = (x[i] >= range.low) & (x[i] <= range.high);
  }
}

POT_MULTIVERSION
void Mask(const uint8_t* inside, float* grad, int64_t count) {
  for (int64_t i = 0; i < count; ++i) grad[i] = inside[i] ? grad[i] : 0.0f;
}

}  // namespace

absl::StatusOr<ActivationFakeQuantizer> ActivationFakeQuantizer::Create(
    int num_sites, const ActivationFakeQuantizeOptions& options) {
  if (num_sites < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_sites is ", num_sites, "; it must be at least 1"));
  }
  // Negated, so that a NaN fails too.
  if (!(options.observer_rate > 0.0f && options.observer_rate <= 1.0f)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "observer_rate is ", options.observer_rate, "; it must be in (0, 1]"));
  }
  ActivationFakeQuantizer result;
  result.options_ = options;
  result.ranges_.resize(2 * size_t(num_sites));
  result.observed_.resize(num_sites);
  return result;
}

void ActivationFakeQuantizer::Forward(int site, bool training, float* x,
                                      int64_t tokens, int64_t width,
                                      uint8_t* inside) {
  switch (options_.mode) {
    case ActivationFakeQuantization::kFloat:
      return;
    case ActivationFakeQuantization::kAffine:
      return RoundTokens(ActivationMode::kAffine, x, tokens, width);
    case ActivationFakeQuantization::kSymmetric:
      return RoundTokens(ActivationMode::kSymmetric, x, tokens, width);
    case ActivationFakeQuantization::kObserved:
      break;
  }
  if (training) Observe(site, x, tokens, width);
  if (observed_[site] == 0) {
    if (inside != nullptr) std::fill(inside, inside + tokens * width, 1);
    return;
  }
  const Interval range{ranges_[2 * site], ranges_[2 * site + 1]};
  const ActivationStep step =
      ActivationStepFor(range.low, range.high, ActivationMode::kAffine);
#pragma omp parallel for schedule(static) if (tokens * width > kParallel)
  for (int64_t t = 0; t < tokens; ++t) {
    float* row = x + t * width;
    if (inside != nullptr) MarkInside(row, width, range, inside + t * width);
    RoundToStep(step, row, width);
  }
}

void ActivationFakeQuantizer::RoundTokens(ActivationMode mode, float* x,
                                          int64_t tokens, int64_t width) {
#pragma omp parallel for schedule(static) if (tokens * width > kParallel)
  for (int64_t t = 0; t < tokens; ++t) {
    float* row = x + t * width;
    const Interval range = IntervalOf(row, width);
    RoundToStep(ActivationStepFor(range.low, range.high, mode), row, width);
  }
}

void ActivationFakeQuantizer::Observe(int site, const float* x, int64_t tokens,
                                      int64_t width) {
  float low = 0.0f, high = 0.0f;
#pragma omp parallel for schedule(static) reduction(min                  \
                                                    : low) reduction(max \
                                                                     : high)
  for (int64_t t = 0; t < tokens; ++t) {
    const Interval range = IntervalOf(x + t * width, width);
    low = std::min(low, range.low);
    high = std::max(high, range.high);
  }
  float* range = ranges_.data() + 2 * site;
  if (observed_[site] == 0) {
    range[0] = low;
    range[1] = high;
    observed_[site] = 1;
    return;
  }
  range[0] += options_.observer_rate * (low - range[0]);
  range[1] += options_.observer_rate * (high - range[1]);
}

void ActivationFakeQuantizer::Backward(const uint8_t* inside, float* grad,
                                       int64_t count) const {
  if (!needs_mask()) return;
#pragma omp parallel for schedule(static) if (count > kParallel)
  for (int64_t i = 0; i < count; i += kParallel) {
    Mask(inside + i, grad + i, std::min(kParallel, count - i));
  }
}

std::pair<float, float> ActivationFakeQuantizer::Range(int site) const {
  return {ranges_[2 * site], ranges_[2 * site + 1]};
}

void ActivationFakeQuantizer::AppendState(const std::string& prefix,
                                          StateTensors* state) const {
  if (!needs_mask()) return;
  const int64_t num_sites = observed_.size();
  pot::AppendState<float>(prefix + "ranges", TensorType::kF32, {num_sites, 2},
                          ranges_, state);
  pot::AppendState<uint8_t>(prefix + "observed", TensorType::kU8, {num_sites},
                            observed_, state);
}

absl::Status ActivationFakeQuantizer::Restore(const std::string& prefix,
                                              const TensorMap& tensors) {
  if (!needs_mask()) return absl::OkStatus();
  const int64_t num_sites = observed_.size();
  std::vector<float> ranges(ranges_.size());
  std::vector<uint8_t> observed(observed_.size());
  POT_RETURN_IF_ERROR(ReadState<float>(tensors, prefix + "ranges",
                                       TensorType::kF32, {num_sites, 2},
                                       absl::MakeSpan(ranges)));
  POT_RETURN_IF_ERROR(ReadState<uint8_t>(tensors, prefix + "observed",
                                         TensorType::kU8, {num_sites},
                                         absl::MakeSpan(observed)));
  for (size_t i = 0; i < ranges.size(); i += 2) {
    // Negated, so that a NaN fails too.
    if (!(std::isfinite(ranges[i]) && ranges[i] <= 0.0f &&
          std::isfinite(ranges[i + 1]) && ranges[i + 1] >= 0.0f)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the snapshot's tensor ", prefix, "ranges: site ", i / 2, " has [",
          ranges[i], ", ", ranges[i + 1], "]; a range is finite and holds 0"));
    }
  }
  ranges_ = std::move(ranges);
  observed_ = std::move(observed);
  return absl::OkStatus();
}

}  // namespace pot
