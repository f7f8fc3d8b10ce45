#include "engine/quant/scale_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "engine/quant/level_book.h"
#include "engine/quant/pot_quantizer.h"

namespace pot {
namespace {

constexpr int kLanes = 16;
// Weights rounded together: their buffers stay in the L1 cache, and a float
// sum is at most kChunk / kLanes long.
constexpr int kChunk = 512;
// Weights whose errors are summed by one thread.
constexpr size_t kSlice = 1 << 16;

// Scales over max_magnitude / top.
//
// 0.04 * 67.5^(t / 63), t = 0 .. 63, that is 0.04 .. 2.7, by multiplication:
// IEEE 754 doubles give the same everywhere, which pow() would not.
constexpr std::array<double, kScaleSteps> kRatios = [] {
  std::array<double, kScaleSteps> ratios{};
  double ratio = 0.04;
  for (double& each : ratios) {
    each = ratio;
    ratio *= 1.069144897992863;
  }
  return ratios;
}();

// 0.01 i, i = 1 .. 200, times s0 = 2 max_magnitude / top.
constexpr std::array<double, kPotPtqSteps> kPotPtqRatios = [] {
  std::array<double, kPotPtqSteps> ratios{};
  for (int i = 0; i < kPotPtqSteps; ++i) ratios[i] = 0.02 * (i + 1);
  return ratios;
}();

absl::Span<const double> RatiosOf(RoundIn round) {
  if (round == RoundIn::kValue) return kRatios;
  return kPotPtqRatios;
}

// Squared error of each candidate, in units of (max_magnitude / top)^2, for
// the positive [0] and the negative [1] scale.
using Errors = std::array<std::array<double, kPotPtqSteps>, 2>;
static_assert(kScaleSteps <= kPotPtqSteps);

// sum (x - min(level, limit))^2, in one fixed order.
double SquaredError(const float* x, const float* level, const float* limit,
                    int n) {
  float sum[kLanes] = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const float l = level[i + lane];
      const float m = limit[i + lane];
      const float error = x[i + lane] - (l < m ? l : m);
      sum[lane] += error * error;
    }
  }
  for (int lane = 0; i < n; ++i, ++lane) {
    const float error = x[i] - std::min(level[i], limit[i]);
    sum[lane] += error * error;
  }
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) sum[lane] += sum[lane + half];
  }
  return sum[0];
}

class SliceSearch {
 public:
  // `ratios`, at most kPotPtqSteps, are candidates over max_magnitude / top.
  SliceSearch(const PotFormat& format, float max_magnitude, RoundIn round,
              absl::Span<const double> ratios)
      : book_(*FindLevelBook(&format, round)),
        ratios_(ratios),
        num_signs_(format.lopsided ? 2 : 1),
        max_magnitude_(max_magnitude) {
    for (int j = 0; j + 1 < book_.count; ++j) {
      rise_[j] = book_.magnitude[j + 1] - book_.magnitude[j];
    }
    for (size_t t = 0; t < ratios_.size(); ++t) {
      inverse_[t] =
          static_cast<float>(static_cast<double>(format.top()) / ratios_[t]);
    }
  }

  void Add(absl::Span<const float> slice, Errors& errors) const {
    for (size_t begin = 0; begin < slice.size(); begin += kChunk) {
      AddChunk(slice.subspan(begin, kChunk), errors);
    }
  }

 private:
  void AddChunk(absl::Span<const float> chunk, Errors& errors) const {
    float unit[kChunk], x[kChunk], level[kChunk], limit[2][kChunk];
    const int n = static_cast<int>(chunk.size());
    // Relative to the largest weight, so that no candidate overflows.
    for (int i = 0; i < n; ++i) {
      unit[i] = std::fabs(chunk[i]) / max_magnitude_;
      const bool negative = chunk[i] < 0.0f;
      limit[0][i] = book_.magnitude[book_.last[negative ? 1 : 0]];
      limit[1][i] = book_.magnitude[book_.last[negative ? 0 : 1]];
    }
    for (size_t t = 0; t < ratios_.size(); ++t) {
      const float inverse = inverse_[t];
      for (int i = 0; i < n; ++i) x[i] = unit[i] * inverse;
      RoundToBook(book_, book_.magnitude[0], rise_.data(), x, n, level);
      for (int sign = 0; sign < num_signs_; ++sign) {
        errors[sign][t] +=
            SquaredError(x, level, limit[sign], n) * (ratios_[t] * ratios_[t]);
      }
    }
  }

  const LevelBook& book_;
  absl::Span<const double> ratios_;
  int num_signs_;
  float max_magnitude_;
  std::array<float, LevelBook::kMaxMagnitudes> rise_{};
  std::array<float, kPotPtqSteps> inverse_{};
};

}  // namespace

float SearchScale(absl::Span<const float> group, float max_magnitude,
                  const PotFormat& format, RoundIn round, ThreadPool* pool) {
  const absl::Span<const double> ratios = RatiosOf(round);
  const SliceSearch search(format, max_magnitude, round, ratios);
  Errors total{};
  if (group.size() <= kSlice) {
    search.Add(group, total);
  } else {
    std::vector<Errors> partial((group.size() + kSlice - 1) / kSlice);
    const auto add = [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        search.Add(group.subspan(i * kSlice, kSlice), partial[i]);
      }
    };
    if (pool != nullptr) {
      pool->ParallelFor(partial.size(), 1, add);
    } else {
      add(0, partial.size());
    }
    for (const Errors& each : partial) {
      for (int sign = 0; sign < 2; ++sign) {
        for (size_t t = 0; t < ratios.size(); ++t) {
          total[sign][t] += each[sign][t];
        }
      }
    }
  }

  double best_error = std::numeric_limits<double>::infinity();
  double best = 0.0;
  for (size_t t = 0; t < ratios.size(); ++t) {
    for (int sign = 0; sign < (format.lopsided ? 2 : 1); ++sign) {
      if (total[sign][t] >= best_error) continue;
      best_error = total[sign][t];
      best = sign == 0 ? ratios[t] : -ratios[t];
    }
  }
  const double scale = best * static_cast<double>(max_magnitude) /
                       static_cast<double>(format.top());
  const double floor = std::numeric_limits<float>::min();
  return static_cast<float>(
      std::copysign(std::max(std::fabs(scale), floor), scale));
}

namespace {

// Steps of 2^(1/10), 7 % apart as kRatios are.
constexpr int kOctaveSteps = 10;
constexpr double kOctave[kOctaveSteps] = {1.0,
                                          1.0717734625362931,
                                          1.1486983549970351,
                                          1.2311444133449163,
                                          1.3195079107728942,
                                          1.4142135623730951,
                                          1.515716566510398,
                                          1.624504792712471,
                                          1.7411011265922482,
                                          1.8660659830736148};
// From 0.04 to 2.7: log2(67.5) octaves.
constexpr int kGroupSteps = 61;
// Of a row's scale to a group's: 2^0 to 2^6, and -2^7.
constexpr int kFactorOctaves = 8;

double ScaleAt(int step) {
  const int octave =
      (step >= 0 ? step : step - (kOctaveSteps - 1)) / kOctaveSteps;
  return std::ldexp(kOctave[step - octave * kOctaveSteps], octave);
}

// The first step whose scale is at least `scale` > 0.
int StepFrom(double scale) {
  int exponent = 0;
  const double mantissa = 2 * std::frexp(scale, &exponent);
  const auto* const at =
      std::lower_bound(std::begin(kOctave), std::end(kOctave), mantissa);
  return (exponent - 1) * kOctaveSteps +
         static_cast<int>(at - std::begin(kOctave));
}

// The errors of a group under the scales of its steps.
class GroupErrors {
 public:
  GroupErrors(absl::Span<const float> group, const PotFormat& format)
      : num_signs_(format.lopsided ? 2 : 1) {
    float max = 0;
    for (const float w : group) {
      max = std::max(max, std::fabs(w));
      zero_error_ += double{w} * w;
    }
    if (max == 0) return;
    const double unit = double{max} / static_cast<double>(format.top());
    first_ = StepFrom(kRatios[0] * unit);
    std::array<double, kGroupSteps> ratios;
    for (int t = 0; t < kGroupSteps; ++t) {
      ratios[t] = ScaleAt(first_ + t) / unit;
    }
    SliceSearch(format, max, RoundIn::kValue, ratios).Add(group, errors_);
    for (auto& errors : errors_) {
      for (double& error : errors) error *= unit * unit;
    }
  }

  bool zero() const { return zero_error_ == 0; }
  int first() const { return first_; }

  // The least error under ScaleAt(step) times a factor, and that factor's code.
  double Best(int step, PotCode* code) const {
    double best = zero_error_;
    *code = 0;
    for (int octave = 0; octave < kFactorOctaves; ++octave) {
      const int t = step + octave * kOctaveSteps - first_;
      if (t < 0 || t >= kGroupSteps) continue;
      const bool last = octave + 1 == kFactorOctaves;
      const double positive = errors_[0][t];
      const double negative = errors_[num_signs_ - 1][t];
      if (!last && positive < best) {
        best = positive;
        *code = static_cast<PotCode>(octave + 1);
      }
      if (negative < best) {
        best = negative;
        *code = static_cast<PotCode>(last ? 8 : 8 + octave + 1);
      }
    }
    return best;
  }

 private:
  int num_signs_;
  int first_ = 0;
  double zero_error_ = 0;
  Errors errors_{};
};

}  // namespace

float SearchRowScale(absl::Span<const float> row, int64_t group_size,
                     const PotFormat& format, absl::Span<PotCode> factors) {
  std::vector<GroupErrors> groups;
  groups.reserve(factors.size());
  int low = std::numeric_limits<int>::max();
  int high = std::numeric_limits<int>::min();
  for (size_t g = 0; g < factors.size(); ++g) {
    groups.emplace_back(row.subspan(g * group_size, group_size), format);
    if (groups[g].zero()) continue;
    low = std::min(low, groups[g].first());
    high = std::max(high, groups[g].first() + kGroupSteps);
  }
  std::fill(factors.begin(), factors.end(), PotCode{0});
  double best_error = std::numeric_limits<double>::infinity();
  double scale = 0;
  std::vector<PotCode> codes(factors.size());
  // A row's scale below all of its groups' does no better than twice that.
  for (int step = low; step < high; ++step) {
    double error = 0;
    for (size_t g = 0; g < groups.size(); ++g) {
      error += groups[g].Best(step, &codes[g]);
    }
    if (error >= best_error) continue;
    best_error = error;
    scale = std::max(ScaleAt(step), double{std::numeric_limits<float>::min()});
    std::copy(codes.begin(), codes.end(), factors.begin());
  }
  return static_cast<float>(scale);
}

}  // namespace pot
