#include "trainer/ptq/gptq.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/quant/outliers.h"
#include "trainer/base/multiversion.h"
#include "trainer/base/parallel.h"
#include "trainer/math/inverse_factor.h"
#include "trainer/ptq/gptq_refine.h"

namespace pot {
namespace {

// Columns whose effect on all later ones is one product.
constexpr int64_t kBlock = 128;
constexpr double kMaxDamping = 1;

// y[0, n) -= factor * x[0, n).
POT_MULTIVERSION void SubtractScaled(float factor, const float* x, int64_t n,
                                     float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] -= factor * x[i];
}

// The Hessian in the order of its columns, damped. A column that was always 0
// gets the mean: it is then rounded as it is and changes no other.
std::vector<double> Damped(absl::Span<const float> hessian,
                           const std::vector<int32_t>& order, double mean,
                           double damping) {
  const int64_t n = order.size();
  std::vector<double> damped(n * n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      damped[i * n + j] = hessian[int64_t{order[i]} * n + order[j]];
    }
    double& diagonal = damped[i * n + i];
    diagonal = diagonal == 0 ? mean : diagonal + damping * mean;
  }
  return damped;
}

// The scales of a matrix, and `exact`; no codes.
GridWeights StartFrom(const PotMatrix& matrix, ExactWeights exact) {
  GridWeights grid;
  grid.exact = std::move(exact);
  if (!matrix.granularity().power_of_two) {
    grid.scales.assign(matrix.scales().begin(), matrix.scales().end());
    return grid;
  }
  for (int64_t row = 0; row < matrix.rows(); ++row) {
    for (int64_t group = 0; group < matrix.groups_per_row(); ++group) {
      grid.factors.push_back(matrix.Factor(row, group));
      grid.scales.push_back(matrix.Scale(row, group));
    }
  }
  return grid;
}

class Rounder {
 public:
  Rounder(absl::Span<const float> weights, int64_t rows, int64_t cols,
          const QuantizeOptions& options, const GptqFactor& factor,
          GridWeights grid)
      : rows_(rows),
        cols_(cols),
        options_(options),
        factor_(factor),
        grid_(std::move(grid)),
        w_(rows * cols) {
    grid_.codes.resize(rows * cols);
    ParallelFor(rows, 8, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        for (int64_t k = 0; k < cols; ++k) {
          w_[row * cols + k] = weights[row * cols + factor_.order[k]];
        }
      }
    });
  }

  void Run(Products<float>* products) {
    std::vector<float> errors, upper, change;
    for (int64_t begin = 0; begin < cols_; begin += kBlock) {
      const int64_t end = std::min(cols_, begin + kBlock);
      const int64_t width = end - begin, rest = cols_ - end;
      errors.resize(rows_ * width);
      ParallelFor(rows_, 8, [&](int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row) {
          RoundBlock(row, begin, end, errors.data() + row * width);
        }
      });
      if (rest == 0) break;
      upper.resize(width * rest);
      for (int64_t k = 0; k < width; ++k) {
        std::copy_n(factor_.upper.begin() + (begin + k) * cols_ + end, rest,
                    upper.begin() + k * rest);
      }
      change.resize(rows_ * rest);
      products->Multiply({.m = rows_, .n = rest, .k = width}, errors.data(),
                         upper.data(), change.data());
      ParallelFor(rows_, 8, [&](int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row) {
          SubtractScaled(1, change.data() + row * rest, rest,
                         w_.data() + row * cols_ + end);
        }
      });
    }
  }

  GridWeights&& TakeResult() && { return std::move(grid_); }

 private:
  float ScaleOf(int64_t row, int64_t column) const {
    if (options_.granularity.kind == Granularity::Kind::kTensor) {
      return grid_.scales[0];
    }
    return grid_.scales[row * options_.granularity.GroupsPerRow(cols_) +
                        column / options_.granularity.GroupSize(cols_)];
  }

  // Of the outlier at `position`; nullptr where there is none.
  float* ExactWeight(int64_t position) {
    ExactWeights& exact = grid_.exact;
    const auto at = std::lower_bound(exact.positions.begin(),
                                     exact.positions.end(), position);
    if (at == exact.positions.end() || *at != position) return nullptr;
    return &exact.weights[at - exact.positions.begin()];
  }

  // Columns [begin, end) of one row; errors[end - begin], in units of U's
  // diagonal.
  void RoundBlock(int64_t row, int64_t begin, int64_t end, float* errors) {
    float* const w = w_.data() + row * cols_;
    for (int64_t k = begin; k < end; ++k) {
      const int64_t column = factor_.order[k];
      const float scale = ScaleOf(row, column);
      PotCode& code = grid_.codes[row * cols_ + column];
      // What was made up for may have grown beyond what quantizers take.
      const float weight = std::clamp(w[k], -kMaxWeight, kMaxWeight);
      if (float* const exact = ExactWeight(row * cols_ + column)) {
        // Kept as it has become, so that it has no error.
        *exact = weight;
        const float zero = 0;
        QuantizeGroup({&zero, 1}, scale, options_, {&code, 1});
        errors[k - begin] = 0;
        continue;
      }
      QuantizeGroup({&weight, 1}, scale, options_, {&code, 1});
      const float rounded =
          scale * static_cast<float>(options_.format->levels[code]);
      const float* const u = factor_.upper.data() + k * cols_;
      const float error = (weight - rounded) / u[k];
      errors[k - begin] = error;
      SubtractScaled(error, u + k + 1, end - k - 1, w + k + 1);
    }
  }

  const int64_t rows_, cols_;
  const QuantizeOptions options_;
  const GptqFactor& factor_;
  GridWeights grid_;
  std::vector<float> w_;  // (rows, cols), columns in the factor's order
};

}  // namespace

absl::StatusOr<GptqFactor> FactorHessian(absl::Span<const float> hessian,
                                         int64_t cols,
                                         const GptqOptions& options) {
  if (!(options.damping > 0 && options.damping <= kMaxDamping)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "damping must be in (0, ", kMaxDamping, "], not ", options.damping));
  }
  if (hessian.size() != static_cast<uint64_t>(cols * cols)) {
    return absl::InvalidArgumentError(absl::StrCat(
        hessian.size(), " values for a Hessian of ", cols, " columns"));
  }
  for (const float value : hessian) {
    if (!std::isfinite(value)) {
      return absl::InvalidArgumentError(
          "the inputs that the model computes on the calibration text are not "
          "finite");
    }
  }
  GptqFactor factor;
  factor.order.resize(cols);
  std::iota(factor.order.begin(), factor.order.end(), 0);
  const auto diagonal = [&](int32_t k) {
    return hessian[int64_t{k} * cols + k];
  };
  if (options.activation_order) {
    std::stable_sort(
        factor.order.begin(), factor.order.end(),
        [&](int32_t a, int32_t b) { return diagonal(a) > diagonal(b); });
  }
  double mean = 0;
  for (int32_t k = 0; k < cols; ++k) mean += diagonal(k);
  mean = mean > 0 ? mean / static_cast<double>(cols) : 1;

  absl::Status status;
  for (factor.damping = options.damping; factor.damping <= kMaxDamping;
       factor.damping *= 10) {
    std::vector<double> inverse =
        Damped(hessian, factor.order, mean, factor.damping);
    status = FactorInverse(cols, &inverse);
    if (!status.ok()) continue;
    factor.upper.assign(inverse.begin(), inverse.end());
    factor.hessian.assign(hessian.begin(), hessian.end());
    for (int64_t k = 0; k < cols; ++k) {
      float& each = factor.hessian[k * cols + k];
      each =
          static_cast<float>(each == 0 ? mean : each + factor.damping * mean);
    }
    return factor;
  }
  return absl::Status(
      status.code(),
      absl::StrCat("the Hessian cannot be inverted even with a damping of ",
                   kMaxDamping, ": ", status.message()));
}

absl::StatusOr<PotMatrix> QuantizeGptq(absl::Span<const float> weights,
                                       int64_t rows, int64_t cols,
                                       const QuantizeOptions& options,
                                       const GptqFactor& factor,
                                       Products<float>* products,
                                       int refinement_passes) {
  std::vector<float> others(weights.begin(), weights.end());
  POT_ASSIGN_OR_RETURN(ExactWeights exact,
                       TakeOutliers(options.outliers, absl::MakeSpan(others)));
  QuantizeOptions dense = options;
  dense.outliers = 0;
  // Scales, and all checks, from rounding to nearest.
  POT_ASSIGN_OR_RETURN(const PotMatrix nearest,
                       QuantizePot(others, rows, cols, dense));
  Rounder rounder(weights, rows, cols, dense, factor,
                  StartFrom(nearest, std::move(exact)));
  rounder.Run(products);
  POT_RETURN_IF_ERROR(products->status());
  GridWeights grid = std::move(rounder).TakeResult();
  RefineGptq(weights, rows, cols, dense, factor, refinement_passes, &grid);
  std::vector<uint8_t> factors(nearest.packed_factors().begin(),
                               nearest.packed_factors().end());
  if (!factors.empty()) {
    std::vector<float> row_scales(rows);
    for (int64_t row = 0; row < rows; ++row) {
      row_scales[row] = grid.RowScale(row, nearest.groups_per_row());
    }
    grid.scales = std::move(row_scales);
  }
  POT_ASSIGN_OR_RETURN(
      const PotMatrix matrix,
      PotMatrix::FromCodes(options.format, rows, cols, options.granularity,
                           grid.codes, std::move(grid.scales),
                           std::move(factors)));
  return AddOutliers(matrix, grid.exact);
}

}  // namespace pot
