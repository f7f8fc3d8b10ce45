// Durations counted by size, for percentiles over the last seconds.
#ifndef POT_SERVER_SERVING_LATENCY_HISTOGRAM_H_
#define POT_SERVER_SERVING_LATENCY_HISTOGRAM_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace pot {

// Cells whose borders are powers of 2^(1/8) from 16 microseconds to about a
// minute, so that a percentile is at most 9 % too high. Any thread may record
// at any time: one relaxed addition.
class LatencyHistogram {
 public:
  static constexpr size_t kCells = 8 * 22 + 2;
  using Counts = std::array<uint64_t, kCells>;

  void Record(absl::Duration latency) {
    cells_[CellOf(latency)].fetch_add(1, std::memory_order_relaxed);
  }

  // What was recorded since the beginning.
  Counts Read() const;

 private:
  static size_t CellOf(absl::Duration latency);

  std::array<std::atomic<uint64_t>, kCells> cells_ = {};
};

// All of `counts` together.
uint64_t TotalCount(const LatencyHistogram::Counts& counts);

// The upper border of the cell that holds the `share` smallest of `counts`,
// which are not all 0; the lower one of the last cell. `share` in (0, 1].
absl::Duration PercentileOf(const LatencyHistogram::Counts& counts,
                            double share);

}  // namespace pot

#endif  // POT_SERVER_SERVING_LATENCY_HISTOGRAM_H_
