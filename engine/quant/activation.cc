#include "engine/quant/activation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace pot {
namespace {

constexpr int32_t kMaxActivation = 127;
constexpr float kSteps = 2.0f * kMaxActivation;
constexpr int kLanes = 16;

// The integer nearest to |x| < 2^22, half to even: adding 1.5 * 2^23 leaves
// the integer in the low bits of the sum. Any other x gives any integer.
int32_t RoundToInt(float x) {
  constexpr float kMagic = 12582912.0f;
  return static_cast<int32_t>(std::bit_cast<uint32_t>(x + kMagic) -
                              std::bit_cast<uint32_t>(kMagic));
}

int32_t Clamp(int32_t a) {
  return std::min(std::max(a, -kMaxActivation), kMaxActivation);
}

// [min(x, 0), max(x, 0)].
struct Range {
  float low = 0.0f;
  float high = 0.0f;
};

Range FindRange(const float* x, int64_t count) {
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
  Range range;
  for (; i < count; ++i) {
    range.low = std::min(range.low, x[i]);
    range.high = std::max(range.high, x[i]);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    range.low = std::min(range.low, low[lane]);
    range.high = std::max(range.high, high[lane]);
  }
  return range;
}

}  // namespace

absl::StatusOr<ActivationMode> ParseActivationMode(absl::string_view text) {
  for (const ActivationMode mode :
       {ActivationMode::kAffine, ActivationMode::kSymmetric,
        ActivationMode::kFloat}) {
    if (text == ActivationModeName(mode)) return mode;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown activation mode \"", text,
                   "\"; known are affine, symmetric, float"));
}

absl::string_view ActivationModeName(ActivationMode mode) {
  switch (mode) {
    case ActivationMode::kAffine:
      return "affine";
    case ActivationMode::kSymmetric:
      return "symmetric";
    case ActivationMode::kFloat:
      break;
  }
  return "float";
}

ActivationStep ActivationStepFor(float low, float high, ActivationMode mode) {
  const bool affine = mode == ActivationMode::kAffine;
  ActivationStep step;
  // Each end is divided by itself: high - low could overflow.
  step.scale.scale = affine ? high / kSteps - low / kSteps
                            : std::max(-low, high) / kMaxActivation;
  if (step.scale.scale < std::numeric_limits<float>::min()) {
    return ActivationStep{};
  }
  step.inverse = 1.0f / step.scale.scale;
  if (affine) {
    step.scale.zero_point =
        Clamp(-kMaxActivation - RoundToInt(low * step.inverse));
  }
  step.low = static_cast<float>(-kMaxActivation - step.scale.zero_point);
  step.high = static_cast<float>(kMaxActivation - step.scale.zero_point);
  return step;
}

ActivationScale QuantizeActivation(const float* x, int64_t count,
                                   ActivationMode mode, int8_t* a) {
  const Range range = FindRange(x, count);
  const ActivationStep step = ActivationStepFor(range.low, range.high, mode);
  if (step.scale.scale == 0.0f) {
    std::fill(a, a + count, int8_t{0});
    return step.scale;
  }
  for (int64_t i = 0; i < count; ++i) {
    // Clamped in float, where a NaN compares false and becomes a bound.
    float n = x[i] * step.inverse;
    n = n < step.high ? n : step.high;
    n = n > step.low ? n : step.low;
    a[i] = static_cast<int8_t>(RoundToInt(n) + step.scale.zero_point);
  }
  return step.scale;
}

}  // namespace pot
