#include "server/serving/latency_histogram.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace pot {
namespace {

constexpr double kLowest = 16e-6;
constexpr double kCellsPerDoubling = 8;

// Of cell i; the last one has none.
double UpperBorder(size_t cell) {
  return kLowest * std::exp2(static_cast<double>(cell) / kCellsPerDoubling);
}

}  // namespace

size_t LatencyHistogram::CellOf(absl::Duration latency) {
  const double seconds = absl::ToDoubleSeconds(latency);
  if (!(seconds > kLowest)) return 0;
  const double cell =
      std::ceil(std::log2(seconds / kLowest) * kCellsPerDoubling);
  return static_cast<size_t>(std::min(cell, static_cast<double>(kCells - 1)));
}

LatencyHistogram::Counts LatencyHistogram::Read() const {
  Counts counts;
  for (size_t i = 0; i < kCells; ++i) {
    counts[i] = cells_[i].load(std::memory_order_relaxed);
  }
  return counts;
}

uint64_t TotalCount(const LatencyHistogram::Counts& counts) {
  return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
}

absl::Duration PercentileOf(const LatencyHistogram::Counts& counts,
                            double share) {
  const double wanted =
      std::ceil(share * static_cast<double>(TotalCount(counts)));
  double seen = 0;
  size_t cell = 0;
  for (; cell < counts.size(); ++cell) {
    seen += static_cast<double>(counts[cell]);
    if (seen >= wanted) break;
  }
  cell = std::min(cell, counts.size() - 2);
  return absl::Seconds(UpperBorder(cell));
}

}  // namespace pot
