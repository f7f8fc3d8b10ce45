#include "trainer/math/inverse_factor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/kernels/unroll.h"
#include "trainer/base/multiversion.h"
#include "trainer/base/parallel.h"

namespace pot {
namespace {

constexpr int64_t kBlock = 64;
constexpr int64_t kStrip = 16;     // columns that are in registers at a time
constexpr int64_t kRows = 4;       // rows with them
constexpr int64_t kDepth = 256;    // products added up at a time
constexpr int64_t kRowGrain = 64;  // a multiple of kRows

// y[0, n) -= factor * x[0, n).
POT_MULTIVERSION void SubtractScaled(double factor, const double* x, int64_t n,
                                     double* y) {
  for (int64_t i = 0; i < n; ++i) y[i] -= factor * x[i];
}

// y[r][c] -= sum over k < depth of factors[r][k] * x[k][c], one k after the
// other, for kRows rows and kStrip columns; x without gaps.
POT_MULTIVERSION void SubtractProducts(const double* factors,
                                       int64_t factor_stride, const double* x,
                                       int64_t depth, double* y,
                                       int64_t y_stride) {
  typedef double D8 __attribute__((vector_size(64)));
  constexpr int64_t kLanes = 8;
  constexpr int64_t kVectors = kStrip / kLanes;
  D8 sums[kRows][kVectors];
  POT_UNROLL
  for (int64_t r = 0; r < kRows; ++r) {
    POT_UNROLL
    for (int64_t v = 0; v < kVectors; ++v) {
      std::memcpy(&sums[r][v], y + r * y_stride + v * kLanes, sizeof(D8));
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    POT_UNROLL
    for (int64_t v = 0; v < kVectors; ++v) {
      D8 values;
      std::memcpy(&values, x + k * kStrip + v * kLanes, sizeof(D8));
      POT_UNROLL
      for (int64_t r = 0; r < kRows; ++r) {
        sums[r][v] = sums[r][v] - values * factors[r * factor_stride + k];
      }
    }
  }
  POT_UNROLL
  for (int64_t r = 0; r < kRows; ++r) {
    POT_UNROLL
    for (int64_t v = 0; v < kVectors; ++v) {
      std::memcpy(y + r * y_stride + v * kLanes, &sums[r][v], sizeof(D8));
    }
  }
}

int64_t RoundUp(int64_t count, int64_t unit) {
  return (count + unit - 1) / unit * unit;
}

// Takes the products of columns [begin, end) from rows end + [first, last) of
// the lower triangle of a, the panel being those columns. What lies above the
// diagonal is overwritten, too.
void SubtractPanel(const double* panel, int64_t begin, int64_t end,
                   int64_t first, int64_t last, int64_t n, double* a) {
  const int64_t width = end - begin;
  for (int64_t c = 0; c < last; c += kStrip) {
    const double* const strip = panel + c * width;
    // Rows that have elements in the strip, in whole groups where there is
    // room.
    int64_t r = std::max(first, c);
    for (; r + kRows <= last && end + c + kStrip <= n; r += kRows) {
      double* const row = a + (end + r) * n;
      SubtractProducts(row + begin, n, strip, width, row + end + c, n);
    }
    for (; r < last; ++r) {
      double* const row = a + (end + r) * n;
      const int64_t count = std::min(kStrip, r + 1 - c);
      for (int64_t k = 0; k < width; ++k) {
        SubtractScaled(row[begin + k], strip + k * kStrip, count,
                       row + end + c);
      }
    }
  }
}

// A = L L^T: L in the lower triangle of a, by columns of blocks.
absl::Status Cholesky(int64_t n, double* a) {
  // Of the block's columns, transposed, the rows below in strips: (strip,
  // column, kStrip).
  std::vector<double> panel;
  // The block's columns of L, each from its diagonal on.
  std::vector<double> diagonal(kBlock * kBlock);
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
    const int64_t width = end - begin;
    for (int64_t j = begin; j < end; ++j) {
      for (int64_t k = j; k < end; ++k) {
        diagonal[(j - begin) * width + k - j] = a[k * n + j];
      }
    }
    panel.assign(RoundUp(below, kStrip) * width, 0.0);
    ParallelFor(below, kRowGrain, [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r) {
        double* const row = a + (end + r) * n;
        double* const column =
            panel.data() + r / kStrip * width * kStrip + r % kStrip;
        for (int64_t j = begin; j < end; ++j) {
          row[j] /= a[j * n + j];
          SubtractScaled(row[j], diagonal.data() + (j - begin) * width + 1,
                         end - 1 - j, row + j + 1);
          column[(j - begin) * kStrip] = row[j];
        }
      }
    });
    // Each block of rows with its mirror image, so that threads get as much.
    const int64_t parts = (below + kRowGrain - 1) / kRowGrain;
    ParallelFor(parts, 1, [&](int64_t first, int64_t last) {
      for (int64_t p = first; p < last; ++p) {
        const int64_t part = p % 2 == 0 ? p / 2 : parts - 1 - p / 2;
        const int64_t part_begin = part * kRowGrain;
        SubtractPanel(panel.data(), begin, end, part_begin,
                      std::min(below, part_begin + kRowGrain), n, a);
      }
    });
  }
  return absl::OkStatus();
}

// inverse[i - begin][c] -= sum over j of l(i, j) inverse(j)[c] for the rows
// [begin, end) of a block and the kStrip columns c from `first`, a multiple of
// kStrip; the rows j < begin of the inverse are in l already.
void SubtractInverse(const double* l, int64_t begin, int64_t end, int64_t first,
                     int64_t n, double* inverse) {
  // Row j of the inverse has j + 1 elements.
  const int64_t whole = std::min(begin, first + kStrip - 1);
  for (int64_t j = first; j < whole; ++j) {
    for (int64_t i = begin; i < end; ++i) {
      SubtractScaled(l[i * n + j], l + j * n + first,
                     std::min(kStrip, j + 1 - first),
                     inverse + (i - begin) * n + first);
    }
  }
  alignas(64) double strip[kDepth * kStrip];
  for (int64_t j = whole; j < begin; j += kDepth) {
    const int64_t depth = std::min(kDepth, begin - j);
    for (int64_t k = 0; k < depth; ++k) {
      std::copy_n(l + (j + k) * n + first, kStrip, strip + k * kStrip);
    }
    int64_t i = begin;
    for (; i + kRows <= end; i += kRows) {
      SubtractProducts(l + i * n + j, n, strip, depth,
                       inverse + (i - begin) * n + first, n);
    }
    for (; i < end; ++i) {
      for (int64_t k = 0; k < depth; ++k) {
        SubtractScaled(l[i * n + j + k], strip + k * kStrip, kStrip,
                       inverse + (i - begin) * n + first);
      }
    }
  }
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
    static_assert(kBlock % kStrip == 0 && kColumnGrain % kStrip == 0);
    ParallelFor(begin, kColumnGrain, [&](int64_t first, int64_t last) {
      for (int64_t c = first; c < last; c += kStrip) {
        SubtractInverse(l, begin, end, c, n, inverse.data());
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
