#include "engine/quant/outliers.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/quant/pot_quantizer.h"

namespace pot {
namespace {

struct OwnedOutliers {
  std::vector<uint32_t> positions;
  std::vector<int16_t> values;
};

// For values of at most 16 bits, and rows within kMaxOutlierSum: rounding adds
// at most a half to each value, and a float's own rounding less than another.
float StepOf(const std::vector<uint32_t>& positions,
             const std::vector<double>& differences, int64_t cols) {
  double step = 0;
  for (size_t begin = 0, end; begin < positions.size(); begin = end) {
    double sum = 0;
    for (end = begin; end < positions.size() &&
                      positions[end] / cols == positions[begin] / cols;
         ++end) {
      const double magnitude = std::fabs(differences[end]);
      sum += magnitude;
      step = std::max(step, magnitude / std::numeric_limits<int16_t>::max());
    }
    const int64_t room = kMaxOutlierSum - static_cast<int64_t>(end - begin) - 2;
    step = std::max(step, sum / static_cast<double>(room));
  }
  return std::max(static_cast<float>(step), std::numeric_limits<float>::min());
}

}  // namespace

absl::Status CheckOutlierShare(double share) {
  if (share >= 0 && share <= kMaxOutlierShare) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("outliers must be 0 % to ", 100 * kMaxOutlierShare,
                   " % of the weights, not ", 100 * share, " %"));
}

absl::StatusOr<ExactWeights> TakeOutliers(double share,
                                          absl::Span<float> weights) {
  POT_RETURN_IF_ERROR(CheckOutlierShare(share));
  ExactWeights taken;
  const auto count =
      static_cast<size_t>(share * static_cast<double>(weights.size()));
  if (count == 0) return taken;
  if (weights.size() > uint64_t{1} << 32) {
    return absl::InvalidArgumentError(
        absl::StrCat("outliers of ", weights.size(),
                     " weights; a matrix that has some may have 2^32"));
  }
  // The threshold first: it takes 4 bytes for each weight instead of 8.
  std::vector<float> magnitudes(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    magnitudes[i] = std::fabs(weights[i]);
    // Negated, so that a NaN fails too.
    if (!(magnitudes[i] <= kMaxWeight)) {
      return absl::InvalidArgumentError(
          absl::StrCat("weight ", i, " is ", weights[i],
                       "; weights must be finite and at most ", kMaxWeight,
                       " in magnitude"));
    }
  }
  std::nth_element(magnitudes.begin(), magnitudes.begin() + (count - 1),
                   magnitudes.end(), std::greater<float>());
  const float threshold = magnitudes[count - 1];
  size_t equals = count - std::count_if(magnitudes.begin(), magnitudes.end(),
                                        [&](float m) { return m > threshold; });
  for (size_t i = 0; i < weights.size(); ++i) {
    const float magnitude = std::fabs(weights[i]);
    if (magnitude < threshold || (magnitude == threshold && equals == 0)) {
      continue;
    }
    if (magnitude == threshold) --equals;
    taken.positions.push_back(static_cast<uint32_t>(i));
    taken.weights.push_back(weights[i]);
    weights[i] = 0.0f;
  }
  return taken;
}

absl::StatusOr<PotMatrix> AddOutliers(const PotMatrix& dense,
                                      const ExactWeights& exact) {
  if (exact.positions.empty()) return dense;
  const int64_t cols = dense.cols();
  std::vector<double> differences(exact.positions.size());
  std::vector<float> row_weights(static_cast<size_t>(cols));
  int64_t last_row = -1;
  for (size_t i = 0; i < differences.size(); ++i) {
    const int64_t row = exact.positions[i] / cols;
    if (row != last_row) dense.DequantizeRow(row, absl::MakeSpan(row_weights));
    last_row = row;
    differences[i] =
        double{exact.weights[i]} - row_weights[exact.positions[i] % cols];
  }
  const float step = StepOf(exact.positions, differences, cols);
  auto owned = std::make_shared<OwnedOutliers>();
  owned->positions = exact.positions;
  owned->values.reserve(differences.size());
  constexpr double kMax = std::numeric_limits<int16_t>::max();
  for (const double difference : differences) {
    const double value = std::nearbyint(difference / double{step});
    owned->values.push_back(
        static_cast<int16_t>(std::clamp(value, -kMax, kMax)));
  }
  const OutlierView view{step, owned->positions, owned->values};
  return dense.WithOutliers(view, std::move(owned));
}

}  // namespace pot
