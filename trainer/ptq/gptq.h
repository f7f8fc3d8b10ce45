// GPTQ (arXiv 2210.17323) with rounding onto a PoT grid: the columns of a
// matrix are rounded one after the other, and what rounding a column did to
// the product's output is made up for in the columns after it. Then scales and
// codes are refined (gptq_refine.h).
#ifndef POT_TRAINER_PTQ_GPTQ_H_
#define POT_TRAINER_PTQ_GPTQ_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/quant/pot_matrix.h"
#include "engine/quant/pot_quantizer.h"
#include "trainer/math/products.h"

namespace pot {

struct GptqOptions {
  // Added to the Hessian's diagonal, over its mean. (0, 1].
  double damping = 0.01;
  // Columns in the order of falling Hessian diagonal.
  bool activation_order = false;
  // Passes of RefineGptq at most, [0, 100].
  int refinement_passes = 2;
};

// What rounding a matrix with these inputs needs.
struct GptqFactor {
  // Columns in the order in which they are rounded.
  std::vector<int32_t> order;
  // U (cols, cols), in that order, upper triangular: H^-1 = U^T U.
  std::vector<float> upper;
  // H (cols, cols) in the order of the weights, damped.
  std::vector<float> hessian;
  // The damping that was needed: at least that of the options.
  double damping = 0;
};

// `hessian` (cols, cols): the sum of x x^T over the inputs x of the matrix, or
// any positive multiple. Inputs that were always 0 are left out of the rest.
// With damping as asked for, or ten times as much again and again up to 1,
// while the Hessian is not positive definite; FAILED_PRECONDITION when that
// does not help, INVALID_ARGUMENT when a value is not finite or the options
// are outside their range.
absl::StatusOr<GptqFactor> FactorHessian(absl::Span<const float> hessian,
                                         int64_t cols,
                                         const GptqOptions& options);

// weights[rows][cols] onto the grid of `options`, whose scales come from the
// weights as they are given (static groups) and are then refined. Outliers are
// taken from those, too, and keep what the errors before them have made of
// them. Errors as QuantizePot.
absl::StatusOr<PotMatrix> QuantizeGptq(absl::Span<const float> weights,
                                       int64_t rows, int64_t cols,
                                       const QuantizeOptions& options,
                                       const GptqFactor& factor,
                                       Products<float>* products,
                                       int refinement_passes = 0);

}  // namespace pot

#endif  // POT_TRAINER_PTQ_GPTQ_H_
