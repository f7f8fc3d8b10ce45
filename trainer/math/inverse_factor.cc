#include "trainer/math/inverse_factor.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "trainer/base/multiversion.h"
#include "trainer/base/parallel.h"

namespace pot {
namespace {

constexpr int64_t kBlock = 64;
constexpr int64_t kRowGrain = 8;

// y[0, n) -= factor * x[0, n).
POT_MULTIVERSION void SubtractScaled(double factor, const double* x, int64_t n,
                                     double* y) {
  for (int64_t i = 0; i < n; ++i) y[i] -= factor * x[i];
}

// A = L L^T: L in the lower triangle of a, by columns of blocks.
absl::Status Cholesky(int64_t n, double* a) {
  std::vector<double> panel;  // (columns of the block, rows below), transposed
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = std::min(n, begin + kBlock);
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t j = begin; j <= i; ++j) {
        double sum = a[i * n + j];
        for (int64_t k = begin; k < j; ++k) sum -= a[i * n + k] * a[j * n + k];
        if (j < i) {
          a[i * n + j] = sum / a[j * n + j];
          continue;
        }
        // Negated, so that a NaN fails too.
        if (!(sum > 0)) {
          return absl::FailedPreconditionError(
              absl::StrCat("the matrix is not positive definite: pivot ", i,
                           " of ", n, " is ", sum));
        }
        a[i * n + i] = std::sqrt(sum);
      }
    }
    const int64_t below = n - end;
    panel.resize((end - begin) * below);
    ParallelFor(below, kRowGrain, [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r) {
        double* const row = a + (end + r) * n;
        for (int64_t j = begin; j < end; ++j) {
          double sum = row[j];
          for (int64_t k = begin; k < j; ++k) sum -= row[k] * a[j * n + k];
          row[j] = sum / a[j * n + j];
          panel[(j - begin) * below + r] = row[j];
        }
      }
    });
    ParallelFor(below, kRowGrain, [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r) {
        double* const row = a + (end + r) * n;
        for (int64_t k = begin; k < end; ++k) {
          SubtractScaled(row[k], panel.data() + (k - begin) * below, r + 1,
                         row + end);
        }
      }
    });
  }
  return absl::OkStatus();
}

// L^-1 in the place of L, both lower triangular, by rows of blocks.
void InvertLower(int64_t n, double* l) {
  std::vector<double> inverse(kBlock * n);
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = std::min(n, begin + kBlock);
    // Row i of the inverse: (e_i - sum over j < i of l(i, j) inverse(j)) /
    // l(i, i), where the rows above the block have theirs in l already.
    std::fill(inverse.begin(), inverse.end(), 0.0);
    constexpr int64_t kColumnGrain = 128;
    ParallelFor(begin, kColumnGrain, [&](int64_t first, int64_t last) {
      for (int64_t j = first; j < begin; ++j) {
        // Row j of the inverse has j + 1 elements.
        const int64_t width = std::min(last, j + 1) - first;
        for (int64_t i = begin; i < end; ++i) {
          SubtractScaled(l[i * n + j], l + j * n + first, width,
                         inverse.data() + (i - begin) * n + first);
        }
      }
    });
    for (int64_t i = begin; i < end; ++i) {
      double* const row = inverse.data() + (i - begin) * n;
      row[i] = 1;
      for (int64_t j = begin; j < i; ++j) {
        SubtractScaled(l[i * n + j], inverse.data() + (j - begin) * n, j + 1,
                       row);
      }
      for (int64_t c = 0; c <= i; ++c) row[c] /= l[i * n + i];
    }
    for (int64_t i = begin; i < end; ++i) {
      std::copy_n(inverse.begin() + (i - begin) * n, i + 1, l + i * n);
    }
  }
}

}  // namespace

// With J the reversal of rows and columns: J A J = L L^T, so A = R R^T with
// R = J L J upper triangular, and A^-1 = U^T U with U = R^-1 = J L^-1 J.
absl::Status FactorInverse(int64_t n, std::vector<double>* matrix) {
  double* const a = matrix->data();
  // J A J, whose lower triangle is made of A's upper one: that of its mirror.
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < i; ++j) a[j * n + i] = a[i * n + j];
  }
  std::reverse(matrix->begin(), matrix->end());
  const absl::Status status = Cholesky(n, a);
  if (!status.ok()) return status;
  InvertLower(n, a);
  for (int64_t i = 0; i < n; ++i) {
    std::fill(a + i * n + i + 1, a + (i + 1) * n, 0.0);
  }
  std::reverse(matrix->begin(), matrix->end());
  return absl::OkStatus();
}

}  // namespace pot
