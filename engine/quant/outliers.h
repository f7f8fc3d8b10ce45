// Which weights stay out of the grid, and how they are kept beside it.
#ifndef POT_ENGINE_QUANT_OUTLIERS_H_
#define POT_ENGINE_QUANT_OUTLIERS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/quant/pot_matrix.h"

namespace pot {

// Largest share of a matrix's weights that may be outliers: one takes 48 bits.
inline constexpr double kMaxOutlierShare = 0.05;

// INVALID_ARGUMENT unless it is in [0, kMaxOutlierShare].
absl::Status CheckOutlierShare(double share);

// Some weights of a matrix, exactly.
struct ExactWeights {
  std::vector<uint32_t> positions;  // row * cols + column, ascending
  std::vector<float> weights;
};

// The floor(share * size) weights of largest magnitude, the first of equals;
// they become 0 in `weights`. INVALID_ARGUMENT for a share that
// CheckOutlierShare refuses, for a weight beyond kMaxWeight, and when there are
// more than 2^32.
absl::StatusOr<ExactWeights> TakeOutliers(double share,
                                          absl::Span<float> weights);

// `dense` with outliers that make its weights at those positions the exact
// ones, but for a rounding of half an outlier step: a step is the largest
// difference over 32767, or more where a row would exceed kMaxOutlierSum.
absl::StatusOr<PotMatrix> AddOutliers(const PotMatrix& dense,
                                      const ExactWeights& exact);

}  // namespace pot

#endif  // POT_ENGINE_QUANT_OUTLIERS_H_
