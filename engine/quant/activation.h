// Per-token 8-bit activations: x ~ scale * (a - zero_point), a in [-127, 127].
//
// 255 steps instead of 256 keep |a| <= 127, so that a can be negated in int8
// and two products fit int16: every kernel then computes the same integers.
#ifndef POT_ENGINE_QUANT_ACTIVATION_H_
#define POT_ENGINE_QUANT_ACTIVATION_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pot {

enum class ActivationMode {
  // Uniform over [min(x, 0), max(x, 0)] of the token, as in the papers.
  kAffine,
  // Uniform over [-max|x|, max|x|]; zero_point is 0.
  kSymmetric,
  // Not quantized: weights are dequantized to float. For measuring what the
  // 8 bits cost, not for serving.
  kFloat,
};

absl::StatusOr<ActivationMode> ParseActivationMode(absl::string_view text);
absl::string_view ActivationModeName(ActivationMode mode);

struct ActivationScale {
  // A normal float; 0 when every x is 0 or the step would be subnormal, which
  // is below max|x| = 2^-118: then every a is 0 too.
  float scale = 0.0f;
  int32_t zero_point = 0;  // in [-127, 127]
};

// How the values of a token become integers: a = round(clamp(x * inverse, low,
// high)) + zero_point.
struct ActivationStep {
  ActivationScale scale;  // 0 means that every a is 0
  float inverse = 0.0f;
  float low = 0.0f, high = 0.0f;
};

// For a token with low = min(x, 0) and high = max(x, 0).
ActivationStep ActivationStepFor(float low, float high, ActivationMode mode);

// Quantizes x[count] into a[count], mode kAffine or kSymmetric; rounds half to
// even. |x - scale * (a - zero_point)| <= scale / 2 but for float rounding, and
// 0 is exact. Values that are not finite are the caller's error and give an
// unspecified scale, but zero_point and a within their range.
ActivationScale QuantizeActivation(const float* x, int64_t count,
                                   ActivationMode mode, int8_t* a);

}  // namespace pot

#endif  // POT_ENGINE_QUANT_ACTIVATION_H_
