#include "trainer/ptq/tuned_matrix.h"

#include <algorithm>

#include "engine/base/status_macros.h"
#include "trainer/base/parallel.h"
#include "trainer/quantization/rounding_kernels.h"

namespace pot {
namespace {

// Rows that one thread takes at a time.
constexpr int64_t kGrainRows = 16;
// Keeps scales away from 0 and from turning round.
constexpr float kLeastGamma = -0.9f, kLargestGamma = 9.0f;

}  // namespace

absl::StatusOr<TunedMatrix> TunedMatrix::Create(
    absl::Span<const float> weights, int64_t rows, int64_t cols,
    const QuantizeOptions& options) {
  if (options.outliers > 0) {
    return absl::UnimplementedError(
        "scales are not trained beside outliers; leave out one of the two");
  }
  if (options.granularity.power_of_two) {
    return absl::UnimplementedError(
        "scales that are powers of two are not trained");
  }
  POT_ASSIGN_OR_RETURN(const PotMatrix start,
                       QuantizePot(weights, rows, cols, options));
  TunedMatrix result;
  result.weights_ = weights;
  result.rows_ = rows;
  result.cols_ = cols;
  result.options_ = options;
  result.table_ = MakeRoundingTable(options);
  result.start_.assign(start.scales().begin(), start.scales().end());
  result.Reset();
  return result;
}

int64_t TunedMatrix::FirstScale(int64_t row) const {
  return one_scale() ? 0 : row * options_.granularity.GroupsPerRow(cols_);
}

void TunedMatrix::Reset() {
  gamma_.assign(start_.size(), 0.0f);
  for (std::vector<float>& moment : moment_) moment.assign(start_.size(), 0.0f);
  UpdateScales();
}

void TunedMatrix::UpdateScales() {
  scales_.resize(start_.size());
  for (size_t i = 0; i < start_.size(); ++i) {
    scales_[i] = start_[i] * (1.0f + gamma_[i]);
  }
}

void TunedMatrix::Round(float* effective) const {
  const int64_t run = options_.granularity.GroupSize(cols_);
  ParallelFor(rows_, kGrainRows, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      RoundRuns(table_, weights_.data() + row * cols_, cols_, run,
                scales_.data() + FirstScale(row), effective + row * cols_);
    }
  });
}

void TunedMatrix::Step(const AdamWOptions& adamw, double rate, int64_t step,
                       absl::Span<float> gradient) {
  const int64_t run = options_.granularity.GroupSize(cols_);
  const int64_t groups = options_.granularity.GroupsPerRow(cols_);
  // By row and group, of log |s|: dq/dlog|s| = s dq/ds.
  std::vector<double> sums(rows_ * groups);
  ParallelFor(rows_, kGrainRows, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      BackwardRuns(table_, weights_.data() + row * cols_, cols_, run,
                   scales_.data() + FirstScale(row), /*clip=*/false,
                   sums.data() + row * groups, gradient.data() + row * cols_);
    }
  });
  if (one_scale()) {
    for (size_t i = 1; i < sums.size(); ++i) sums[0] += sums[i];
  }
  std::vector<float> gamma_gradient(gamma_.size());
  for (size_t i = 0; i < gamma_.size(); ++i) {
    // s dGamma = S dGamma = s dlog|s| / (1 + Gamma).
    gamma_gradient[i] = static_cast<float>(sums[i] / (1.0 + gamma_[i]));
  }
  AdamWStep(adamw, rate, step, 1.0, gamma_gradient, absl::MakeSpan(moment_[0]),
            absl::MakeSpan(moment_[1]), absl::MakeSpan(gamma_));
  for (float& each : gamma_) {
    each = std::clamp(each, kLeastGamma, kLargestGamma);
  }
  UpdateScales();
}

absl::StatusOr<PotMatrix> TunedMatrix::Export() const {
  const int64_t run = options_.granularity.GroupSize(cols_);
  std::vector<PotCode> codes(rows_ * cols_);
  ParallelFor(rows_, kGrainRows, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const float* scale = scales_.data() + FirstScale(row);
      for (int64_t k = 0; k < cols_; k += run, ++scale) {
        const size_t n = std::min(run, cols_ - k);
        QuantizeGroup(weights_.subspan(row * cols_ + k, n), *scale, options_,
                      absl::MakeSpan(codes).subspan(row * cols_ + k, n));
      }
    }
  });
  return PotMatrix::FromCodes(options_.format, rows_, cols_,
                              options_.granularity, codes, scales_);
}

}  // namespace pot
