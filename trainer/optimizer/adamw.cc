#include "trainer/optimizer/adamw.h"

#include <cmath>
#include <vector>

#include "trainer/base/multiversion.h"
#include "trainer/base/parallel.h"
#include "trainer/math/elementary.h"

namespace pot {
namespace {

// Elements that one thread takes at a time, and whose squares are summed in
// float lanes.
constexpr int64_t kBlock = 1 << 13;

// What is the same for all parameters.
struct Coefficients {
  float keep;  // 1 - rate * weight_decay
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float step_size;        // rate / (1 - beta1^step)
  float root_correction;  // sqrt(1 - beta2^step)
  float epsilon;
  float gradient_scale;
};

POT_MULTIVERSION void UpdateRange(const Coefficients& c, int64_t count,
                                  const float* gradient, float* m, float* v,
                                  float* w) {
  for (int64_t i = 0; i < count; ++i) {
    const float g = gradient[i] * c.gradient_scale;
    m[i] = c.beta1 * m[i] + c.one_minus_beta1 * g;
    v[i] = c.beta2 * v[i] + c.one_minus_beta2 * g * g;
    const float denominator = std::sqrt(v[i]) / c.root_correction + c.epsilon;
    w[i] = w[i] * c.keep - c.step_size * (m[i] / denominator);
  }
}

POT_MULTIVERSION float SquaresOfRange(const float* x, int64_t count) {
  return LaneSum<float>(count, [x](int64_t i) { return x[i] * x[i]; });
}

}  // namespace

void AdamWStep(const AdamWOptions& options, double rate, int64_t step,
               double gradient_scale, absl::Span<const float> gradient,
               absl::Span<float> m, absl::Span<float> v,
               absl::Span<float> parameters) {
  const double t = static_cast<double>(step);
  Coefficients c;
  c.keep = static_cast<float>(1 - rate * options.weight_decay);
  c.beta1 = static_cast<float>(options.beta1);
  c.one_minus_beta1 = static_cast<float>(1 - options.beta1);
  c.beta2 = static_cast<float>(options.beta2);
  c.one_minus_beta2 = static_cast<float>(1 - options.beta2);
  c.step_size = static_cast<float>(rate / (1 - std::pow(options.beta1, t)));
  c.root_correction =
      static_cast<float>(std::sqrt(1 - std::pow(options.beta2, t)));
  c.epsilon = static_cast<float>(options.epsilon);
  c.gradient_scale = static_cast<float>(gradient_scale);
  ParallelFor(static_cast<int64_t>(parameters.size()), kBlock,
              [&](int64_t begin, int64_t end) {
                UpdateRange(c, end - begin, gradient.data() + begin,
                            m.data() + begin, v.data() + begin,
                            parameters.data() + begin);
              });
}

double SumOfSquares(absl::Span<const float> values) {
  const auto size = static_cast<int64_t>(values.size());
  std::vector<float> blocks((size + kBlock - 1) / kBlock);
  ParallelFor(size, kBlock, [&](int64_t begin, int64_t end) {
    blocks[begin / kBlock] = SquaresOfRange(values.data() + begin, end - begin);
  });
  double sum = 0;
  for (const float block : blocks) sum += block;
  return sum;
}

}  // namespace pot
