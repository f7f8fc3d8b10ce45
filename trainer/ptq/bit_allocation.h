// Mixed precision: which matrix gets which format when there are only so many
// bits.
#ifndef POT_TRAINER_PTQ_BIT_ALLOCATION_H_
#define POT_TRAINER_PTQ_BIT_ALLOCATION_H_

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace pot {

// A matrix in one format: its bits, scales included, and what it costs in
// quality, in any unit that adds up over matrices.
struct FormatCost {
  double bits = 0;
  double loss = 0;
};

// For each matrix the index of a format in its list, so that the losses' sum is
// small and the bits' sum at most `budget`. Starts with everybody's fewest bits
// and buys the step, on the lower convex hull of a matrix's formats, that saves
// the most loss per bit, while one that fits is left: the least loss that its
// own bits allow, and off the optimum of the budget by less than the one step
// that did not fit. Ties go to the matrix that comes first. INVALID_ARGUMENT
// naming the fewest bits when the budget is less; every list has an element.
absl::StatusOr<std::vector<size_t>> AllocateBits(
    absl::Span<const std::vector<FormatCost>> matrices, double budget);

}  // namespace pot

#endif  // POT_TRAINER_PTQ_BIT_ALLOCATION_H_
