// AdamW, and the norm that gradients are clipped by.
#ifndef POT_TRAINER_OPTIMIZER_ADAMW_H_
#define POT_TRAINER_OPTIMIZER_ADAMW_H_

#include <cstdint>

#include "absl/types/span.h"

namespace pot {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0;
};

// One step of AdamW (arXiv 1711.05101, algorithm 2), on parameters that share
// their options; `step` counts from 1. With g = gradient_scale * gradient:
//   w -= rate * weight_decay * w
//   m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
//   w -= rate * m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + epsilon)
// All spans are of one length. In the order of operations of PyTorch's AdamW.
void AdamWStep(const AdamWOptions& options, double rate, int64_t step,
               double gradient_scale, absl::Span<const float> gradient,
               absl::Span<float> m, absl::Span<float> v,
               absl::Span<float> parameters);

// Sum of squares; the same whatever the number of threads.
double SumOfSquares(absl::Span<const float> values);

}  // namespace pot

#endif  // POT_TRAINER_OPTIMIZER_ADAMW_H_
