#ifndef POT_TESTS_BENCH_TIMING_H_
#define POT_TESTS_BENCH_TIMING_H_

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <vector>

namespace pot {

class Stopwatch {
 public:
  double Seconds() const {
    return std::chrono::duration<double>(Clock::now() - begin_).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin_ = Clock::now();
};

// The element a `fraction` of the way up the sorted values; 0.5: the median.
// `values` must not be empty.
inline double Quantile(std::vector<double> values, double fraction) {
  const size_t at = std::min(
      values.size() - 1,
      static_cast<size_t>(fraction * static_cast<double>(values.size())));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[at];
}

inline double Median(std::vector<double> values) {
  return Quantile(std::move(values), 0.5);
}

// Median seconds of `repetitions` calls, after one that is not counted.
template <typename Function>
double MedianSeconds(int repetitions, Function function) {
  function();
  std::vector<double> seconds;
  for (int i = 0; i < repetitions; ++i) {
    const Stopwatch stopwatch;
    function();
    seconds.push_back(stopwatch.Seconds());
  }
  return Median(std::move(seconds));
}

// Two things that are compared take turns, so that whatever else the machine
// does meets both. Their median seconds.
template <typename First, typename Second>
std::pair<double, double> PairedMedianSeconds(int repetitions, First first,
                                              Second second) {
  first();
  second();
  std::vector<double> first_seconds, second_seconds;
  for (int i = 0; i < repetitions; ++i) {
    const Stopwatch first_stopwatch;
    first();
    first_seconds.push_back(first_stopwatch.Seconds());
    const Stopwatch second_stopwatch;
    second();
    second_seconds.push_back(second_stopwatch.Seconds());
  }
  return {Median(std::move(first_seconds)), Median(std::move(second_seconds))};
}

}  // namespace pot

#endif  // POT_TESTS_BENCH_TIMING_H_
