#include "client/sparkline.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

namespace pot {
namespace {

constexpr const char* kBlocks[] = {"\u2581", "\u2582", "\u2583", "\u2584",
                                   "\u2585", "\u2586", "\u2587", "\u2588"};
constexpr const char* kAscii[] = {"_", ".", ",", "-", "=", "+", "*", "#"};
constexpr size_t kHeights = std::size(kBlocks);

double Mean(std::vector<double>::const_iterator begin,
            std::vector<double>::const_iterator end) {
  return std::accumulate(begin, end, 0.0) / static_cast<double>(end - begin);
}

}  // namespace

std::string Sparkline(const std::vector<double>& values, size_t width,
                      bool utf8) {
  std::vector<double> finite;
  std::copy_if(values.begin(), values.end(), std::back_inserter(finite),
               [](double value) { return std::isfinite(value); });
  const size_t size = finite.size();
  width = std::min(width, size);
  std::vector<double> means;
  for (size_t i = 0; i < width; ++i) {
    const auto at = [&](size_t index) {
      return finite.cbegin() +
             static_cast<std::ptrdiff_t>(index * size / width);
    };
    means.push_back(Mean(at(i), at(i + 1)));
  }
  if (means.empty()) return "";
  const auto [low, high] = std::minmax_element(means.begin(), means.end());
  std::string line;
  for (const double mean : means) {
    size_t height = kHeights / 2 - 1;
    const double range = *high - *low;
    if (range > 0 && std::isfinite(range)) {
      const double share = (mean - *low) / range;
      height = std::min(kHeights - 1, static_cast<size_t>(share * kHeights));
    }
    line += (utf8 ? kBlocks : kAscii)[height];
  }
  return line;
}

void ValueHistory::Add(double value) {
  if (!std::isfinite(value)) return;
  sum_ += value;
  if (++pending_ < group_) return;
  values_.push_back(sum_ / static_cast<double>(pending_));
  sum_ = 0;
  pending_ = 0;
  if (values_.size() < capacity_) return;
  for (size_t i = 0; i < capacity_ / 2; ++i) {
    values_[i] = (values_[2 * i] + values_[2 * i + 1]) / 2;
  }
  values_.resize(capacity_ / 2);
  group_ *= 2;
}

}  // namespace pot
