// What GPTQ's one pass over the columns leaves to be had: codes and scales that
// are better still by the same measure.
#ifndef POT_TRAINER_PTQ_GPTQ_REFINE_H_
#define POT_TRAINER_PTQ_GPTQ_REFINE_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/quant/outliers.h"
#include "engine/quant/pot_quantizer.h"
#include "trainer/ptq/gptq.h"

namespace pot {

// What a matrix is rounded to.
struct GridWeights {
  std::vector<PotCode> codes;  // (rows, cols)
  std::vector<float> scales;   // (rows, groups), or the tensor's
  // What each scale is of its row's, (rows, groups), where groups have powers
  // of two; else empty.
  std::vector<int32_t> factors;
  ExactWeights exact;  // weights beside the grid

  // The float of a row whose `groups` scales are it times factors; 0 where all
  // of them are 0.
  float RowScale(int64_t row, int64_t groups) const {
    for (int64_t i = row * groups; i < (row + 1) * groups; ++i) {
      if (factors[i] != 0) return scales[i] / static_cast<float>(factors[i]);
    }
    return 0.0f;
  }
};

// Lowers sum over rows of (w - q) H (w - q)^T, H = factor.hessian, never
// raising it but for rounding. `passes` times, or until no code changes any
// more:
// 1. scales: all of a row's at once, by least squares under its codes; the
//    row's alone where groups have powers of two of it; not a whole tensor's
// 2. codes: one column after the other, in the factor's order, the best code
//    while all others stay (coordinate descent); exact weights likewise
void RefineGptq(absl::Span<const float> weights, int64_t rows, int64_t cols,
                const QuantizeOptions& options, const GptqFactor& factor,
                int passes, GridWeights* grid);

}  // namespace pot

#endif  // POT_TRAINER_PTQ_GPTQ_REFINE_H_
