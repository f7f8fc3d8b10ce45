// Observations counted by size, for Prometheus.
#ifndef POT_SERVER_OBSERVABILITY_HISTOGRAM_H_
#define POT_SERVER_OBSERVABILITY_HISTOGRAM_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"

namespace pot {

// counts[i]: observations in (bounds[i-1], bounds[i]]; the last entry, beyond
// all bounds.
struct HistogramCounts {
  absl::Span<const double> bounds;
  std::vector<uint64_t> counts;
  double sum = 0;
};

// Any thread may record at any time: two relaxed additions.
class Histogram {
 public:
  static constexpr size_t kMaxBounds = 32;

  // Ascending, at most kMaxBounds, of static storage duration.
  explicit Histogram(absl::Span<const double> bounds) : bounds_(bounds) {}

  void Observe(double value) {
    const size_t cell =
        std::lower_bound(bounds_.begin(), bounds_.end(), value) -
        bounds_.begin();
    counts_[cell].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
  }
  // In seconds.
  void Observe(absl::Duration value) { Observe(absl::ToDoubleSeconds(value)); }

  HistogramCounts Read() const {
    HistogramCounts read;
    read.bounds = bounds_;
    for (size_t i = 0; i <= bounds_.size(); ++i) {
      read.counts.push_back(counts_[i].load(std::memory_order_relaxed));
    }
    read.sum = sum_.load(std::memory_order_relaxed);
    return read;
  }

 private:
  const absl::Span<const double> bounds_;
  std::array<std::atomic<uint64_t>, kMaxBounds + 1> counts_ = {};
  std::atomic<double> sum_ = 0;
};

// Seconds of what one token or one step takes.
inline constexpr double kStepSeconds[] = {
    0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015,
    0.02,   0.03,    0.05,   0.075, 0.1,   0.2,   0.5,   1,      2.5};
// Seconds of what a call takes, or a part of it.
inline constexpr double kCallSeconds[] = {
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5,   1,      2.5,   5,    10,    30,   60,  300};
// Sequences or tokens of a step.
inline constexpr double kBatchSizes[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512};

}  // namespace pot

#endif  // POT_SERVER_OBSERVABILITY_HISTOGRAM_H_
