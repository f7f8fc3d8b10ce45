#include "trainer/ptq/gptq.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "trainer/base/multiversion.h"
#include "trainer/base/parallel.h"
#include "trainer/math/inverse_factor.h"

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

class Rounder {
 public:
  Rounder(absl::Span<const float> weights, int64_t rows, int64_t cols,
          const QuantizeOptions& options, const GptqFactor& factor,
          std::vector<float> scales)
      : rows_(rows),
        cols_(cols),
        options_(options),
        factor_(factor),
        scales_(std::move(scales)),
        w_(rows * cols),
        codes_(rows * cols) {
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

  absl::StatusOr<PotMatrix> Result() && {
    return PotMatrix::FromCodes(options_.format, rows_, cols_,
                                options_.granularity, codes_,
                                std::move(scales_));
  }

 private:
  float ScaleOf(int64_t row, int64_t column) const {
    if (options_.granularity.kind == Granularity::Kind::kTensor) {
      return scales_[0];
    }
    return scales_[row * options_.granularity.GroupsPerRow(cols_) +
                   column / options_.granularity.GroupSize(cols_)];
  }

  // Columns [begin, end) of one row; errors[end - begin], in units of U's
  // diagonal.
  void RoundBlock(int64_t row, int64_t begin, int64_t end, float* errors) {
    float* const w = w_.data() + row * cols_;
    for (int64_t k = begin; k < end; ++k) {
      const int64_t column = factor_.order[k];
      const float scale = ScaleOf(row, column);
      PotCode& code = codes_[row * cols_ + column];
      // What was made up for may have grown beyond what quantizers take.
      const float weight = std::clamp(w[k], -kMaxWeight, kMaxWeight);
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
  std::vector<float> scales_;
  std::vector<float> w_;        // (rows, cols), columns in the factor's order
  std::vector<PotCode> codes_;  // (rows, cols)
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
                                       Products<float>* products) {
  // Scales, and all checks, from rounding to nearest.
  POT_ASSIGN_OR_RETURN(const PotMatrix nearest,
                       QuantizePot(weights, rows, cols, options));
  Rounder rounder(weights, rows, cols, options, factor,
                  {nearest.scales().begin(), nearest.scales().end()});
  rounder.Run(products);
  POT_RETURN_IF_ERROR(products->status());
  return std::move(rounder).Result();
}

}  // namespace pot
