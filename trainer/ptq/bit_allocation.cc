#include "trainer/ptq/bit_allocation.h"

#include <algorithm>
#include <numeric>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace pot {
namespace {

// Loss that a bit saves between two formats, the second the larger one.
double Gain(const FormatCost& a, const FormatCost& b) {
  return (a.loss - b.loss) / (b.bits - a.bits);
}

// Indices on the lower convex hull, from the fewest bits on: bits rise, losses
// and gains fall.
std::vector<size_t> LowerHull(const std::vector<FormatCost>& formats) {
  std::vector<size_t> order(formats.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return formats[a].bits != formats[b].bits
               ? formats[a].bits < formats[b].bits
               : formats[a].loss < formats[b].loss;
  });
  std::vector<size_t> hull;
  for (const size_t i : order) {
    if (!hull.empty() && formats[i].loss >= formats[hull.back()].loss) continue;
    while (hull.size() >= 2 &&
           Gain(formats[hull[hull.size() - 2]], formats[hull.back()]) <=
               Gain(formats[hull.back()], formats[i])) {
      hull.pop_back();
    }
    hull.push_back(i);
  }
  return hull;
}

}  // namespace

absl::StatusOr<std::vector<size_t>> AllocateBits(
    absl::Span<const std::vector<FormatCost>> matrices, double budget) {
  std::vector<std::vector<size_t>> hulls;
  std::vector<size_t> position(matrices.size(), 0);
  double bits = 0;
  for (const std::vector<FormatCost>& formats : matrices) {
    hulls.push_back(LowerHull(formats));
    bits += formats[hulls.back().front()].bits;
  }
  if (bits > budget) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the formats need at least ", bits, " bits, the budget is ", budget));
  }
  while (true) {
    size_t best = matrices.size();
    double best_gain = 0;
    double best_bits = 0;
    for (size_t m = 0; m < matrices.size(); ++m) {
      if (position[m] + 1 == hulls[m].size()) continue;
      const FormatCost& from = matrices[m][hulls[m][position[m]]];
      const FormatCost& to = matrices[m][hulls[m][position[m] + 1]];
      if (bits + (to.bits - from.bits) > budget) continue;
      const double gain = Gain(from, to);
      if (best < matrices.size() && gain <= best_gain) continue;
      best = m;
      best_gain = gain;
      best_bits = to.bits - from.bits;
    }
    if (best == matrices.size()) break;
    ++position[best];
    bits += best_bits;
  }
  std::vector<size_t> chosen(matrices.size());
  for (size_t m = 0; m < matrices.size(); ++m) {
    chosen[m] = hulls[m][position[m]];
  }
  return chosen;
}

}  // namespace pot
