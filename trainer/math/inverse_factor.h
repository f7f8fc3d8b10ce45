#ifndef POT_TRAINER_MATH_INVERSE_FACTOR_H_
#define POT_TRAINER_MATH_INVERSE_FACTOR_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"

namespace pot {

// Of a symmetric positive definite matrix A (n, n), of which only the lower
// triangle is read, the upper triangular U (n, n) with A^-1 = U^T U, in its
// place. n^3 / 2 multiplications. FAILED_PRECONDITION when A is not positive
// definite, which leaves it in ruins. The same bits on any number of threads.
absl::Status FactorInverse(int64_t n, std::vector<double>* matrix);

}  // namespace pot

#endif  // POT_TRAINER_MATH_INVERSE_FACTOR_H_
