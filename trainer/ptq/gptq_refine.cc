#include "trainer/ptq/gptq_refine.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "trainer/base/multiversion.h"
#include "trainer/base/parallel.h"

namespace pot {
namespace {

// Rows that pass over the Hessian together: it is read once for all of them.
constexpr int64_t kRows = 8;
// Added to the diagonal of the normal equations, over itself.
constexpr double kRidge = 1e-9;
// The largest power of two that a group's scale is of its row's.
constexpr int kTopFactor = 128;

// y[0, n) += factor * x[0, n).
POT_MULTIVERSION void AddScaled(float factor, const float* x, int64_t n,
                                float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

// Solves a x = b, a (n, n) symmetric and positive definite, by Cholesky; a's
// lower triangle and b are overwritten, b by x. False where it is not.
bool Solve(int64_t n, double* a, double* b) {
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = a[i * n + j];
      for (int64_t k = 0; k < j; ++k) sum -= a[i * n + k] * a[j * n + k];
      if (i != j) {
        a[i * n + j] = sum / a[j * n + j];
      } else if (sum > 0) {
        a[i * n + i] = std::sqrt(sum);
      } else {
        return false;
      }
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < i; ++k) b[i] -= a[i * n + k] * b[k];
    b[i] /= a[i * n + i];
  }
  for (int64_t i = n; i-- > 0;) {
    for (int64_t k = i + 1; k < n; ++k) b[i] -= a[k * n + i] * b[k];
    b[i] /= a[i * n + i];
  }
  return true;
}

// Some rows, each for itself.
class RowRefiner {
 public:
  RowRefiner(const float* weights, int64_t first, int64_t last, int64_t cols,
             const QuantizeOptions& options, const GptqFactor& factor,
             GridWeights* grid)
      : weights_(weights + first * cols),
        first_(first),
        count_(last - first),
        cols_(cols),
        groups_(options.granularity.GroupsPerRow(cols)),
        group_(options.granularity.GroupSize(cols)),
        one_scale_(options.granularity.kind == Granularity::Kind::kTensor),
        options_(options),
        factor_(factor),
        grid_(*grid),
        exact_(count_ * cols, nullptr),
        product_(count_ * cols) {
    const auto begin = std::lower_bound(grid_.exact.positions.begin(),
                                        grid_.exact.positions.end(),
                                        static_cast<uint64_t>(first * cols));
    for (auto at = begin; at != grid_.exact.positions.end() &&
                          *at < static_cast<uint64_t>(last * cols);
         ++at) {
      exact_[*at - first * cols] =
          &grid_.exact.weights[at - grid_.exact.positions.begin()];
    }
  }

  void Run(int passes) {
    for (int pass = 0; pass < passes; ++pass) {
      if (!one_scale_) FitScales();
      if (!DescendCodes()) break;
    }
  }

 private:
  const float* HessianRow(int64_t column) const {
    return factor_.hessian.data() + column * cols_;
  }
  PotCode& CodeAt(int64_t row, int64_t column) {
    return grid_.codes[(first_ + row) * cols_ + column];
  }
  float* Scales(int64_t row) {
    return grid_.scales.data() + (one_scale_ ? 0 : (first_ + row) * groups_);
  }
  // 0 where the weight is beside the grid.
  float LevelAt(int64_t row, int64_t column) {
    if (exact_[row * cols_ + column] != nullptr) return 0.0f;
    return static_cast<float>(options_.format->levels[CodeAt(row, column)]);
  }
  float QuantizedAt(int64_t row, int64_t column) {
    if (const float* const exact = exact_[row * cols_ + column]) return *exact;
    return Scales(row)[column / group_] * LevelAt(row, column);
  }

  // Row by row with A_ij = l_i H l_j^T and b_i = l_i H (w - exact)^T, l_i the
  // levels of group i and 0 elsewhere: the scales are A^-1 b.
  void FitScales() {
    std::vector<double> a(count_ * groups_ * groups_), b(count_ * groups_);
    for (int64_t i = 0; i < groups_; ++i) {
      const int64_t end = std::min(cols_, (i + 1) * group_);
      std::fill(product_.begin(), product_.end(), 0.0f);
      for (int64_t c = i * group_; c < end; ++c) {
        for (int64_t row = 0; row < count_; ++row) {
          AddScaled(LevelAt(row, c), HessianRow(c), cols_,
                    product_.data() + row * cols_);
        }
      }
      for (int64_t row = 0; row < count_; ++row) {
        const float* const product = product_.data() + row * cols_;
        for (int64_t c = 0; c < cols_; ++c) {
          const float* const exact = exact_[row * cols_ + c];
          const double target =
              double{weights_[row * cols_ + c]} - (exact ? *exact : 0.0f);
          b[row * groups_ + i] += target * product[c];
          a[(row * groups_ + i) * groups_ + c / group_] +=
              double{LevelAt(row, c)} * product[c];
        }
      }
    }
    for (int64_t row = 0; row < count_; ++row) {
      double* const row_a = a.data() + row * groups_ * groups_;
      double* const row_b = b.data() + row * groups_;
      if (grid_.factors.empty()) {
        UseScales(row_a, row_b, Scales(row));
      } else {
        UseRowScale(row_a, row_b, row);
      }
    }
  }

  // With the scales r f_i of a row the least error is that of
  // r = f b / (f A f^T).
  void UseRowScale(const double* a, const double* b, int64_t row) {
    const int32_t* const factors =
        grid_.factors.data() + (first_ + row) * groups_;
    double along = 0, curvature = 0;
    for (int64_t i = 0; i < groups_; ++i) {
      along += factors[i] * b[i];
      for (int64_t j = 0; j < groups_; ++j) {
        curvature += a[i * groups_ + j] * factors[i] * factors[j];
      }
    }
    const double scale = along / curvature;
    const float most =
        kMaxWeight / static_cast<float>(options_.format->top() * kTopFactor);
    // Negated, so that a NaN fails too.
    if (!(std::fabs(scale) >= std::numeric_limits<float>::min() &&
          std::fabs(scale) <= most) ||
        !(scale * grid_.RowScale(first_ + row, groups_) > 0)) {
      return;
    }
    for (int64_t i = 0; i < groups_; ++i) {
      Scales(row)[i] =
          static_cast<float>(scale) * static_cast<float>(factors[i]);
    }
  }

  // Leaves all scales of the row as they are when one of the new ones is no
  // proper scale or has turned round.
  void UseScales(double* a, double* b, float* scales) const {
    for (int64_t i = 0; i < groups_; ++i) {
      double& diagonal = a[i * groups_ + i];
      if (diagonal > 0) {
        diagonal *= 1 + kRidge;
      } else {
        diagonal = 1;  // all levels are 0
        b[i] = scales[i];
      }
    }
    if (!Solve(groups_, a, b)) return;
    const float most = kMaxWeight / static_cast<float>(options_.format->top());
    for (int64_t i = 0; i < groups_; ++i) {
      if (scales[i] == 0.0f) continue;
      const double ratio = b[i] / scales[i];
      if (!(ratio > 0 && std::fabs(b[i]) >= std::numeric_limits<float>::min() &&
            std::fabs(b[i]) <= most)) {
        return;
      }
    }
    for (int64_t i = 0; i < groups_; ++i) {
      if (scales[i] != 0.0f) scales[i] = static_cast<float>(b[i]);
    }
  }

  // Whether a code changed.
  bool DescendCodes() {
    // product_: (w - q) H.
    std::fill(product_.begin(), product_.end(), 0.0f);
    for (int64_t c = 0; c < cols_; ++c) {
      for (int64_t row = 0; row < count_; ++row) {
        AddScaled(weights_[row * cols_ + c] - QuantizedAt(row, c),
                  HessianRow(c), cols_, product_.data() + row * cols_);
      }
    }
    bool changed = false;
    for (const int64_t c : factor_.order) {
      const float* const hessian = HessianRow(c);
      for (int64_t row = 0; row < count_; ++row) {
        float* const product = product_.data() + row * cols_;
        const float before = QuantizedAt(row, c);
        const float best = std::clamp(before + product[c] / hessian[c],
                                      -kMaxWeight, kMaxWeight);
        if (float* const exact = exact_[row * cols_ + c]) {
          *exact = best;
        } else {
          PotCode& code = CodeAt(row, c);
          const PotCode held = code;
          QuantizeGroup({&best, 1}, Scales(row)[c / group_], options_,
                        {&code, 1});
          if (code == held) continue;
          changed = true;
        }
        AddScaled(before - QuantizedAt(row, c), hessian, cols_, product);
      }
    }
    return changed;
  }

  const float* const weights_;  // (count, cols)
  const int64_t first_, count_, cols_, groups_, group_;
  const bool one_scale_;
  const QuantizeOptions& options_;
  const GptqFactor& factor_;
  GridWeights& grid_;
  std::vector<float*> exact_;   // (count, cols)
  std::vector<float> product_;  // (count, cols)
};

}  // namespace

void RefineGptq(absl::Span<const float> weights, int64_t rows, int64_t cols,
                const QuantizeOptions& options, const GptqFactor& factor,
                int passes, GridWeights* grid) {
  ParallelFor(rows, kRows, [&](int64_t first, int64_t last) {
    RowRefiner(weights.data(), first, last, cols, options, factor, grid)
        .Run(passes);
  });
}

}  // namespace pot
