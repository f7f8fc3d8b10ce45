// What pot-bench measured: figures with their targets, as a table or as JSON.
#ifndef POT_TESTS_BENCH_REPORT_H_
#define POT_TESTS_BENCH_REPORT_H_

#include <optional>
#include <string>
#include <vector>

namespace pot {

struct Figure {
  std::string key;  // "decode.tokens_per_s"
  int threads = 0;  // 0 where it does not apply
  double value = 0;
  std::string unit;  // "" for a ratio
  // The bound that the project set itself; empty where a figure is only
  // reported.
  std::optional<double> at_least;
  std::optional<double> at_most;
  std::string note;  // what it was measured against, and that value
};

class Report {
 public:
  void Add(Figure figure) { figures_.push_back(std::move(figure)); }

  // One line per figure: key, threads, value, unit, bound, whether it is met,
  // note.
  std::string Table() const;
  // {"machine": {...}, "figures": [{"key", "threads", "value", ...}]}
  std::string Json() const;

 private:
  std::vector<Figure> figures_;
};

// "AMD EPYC, 2 CPUs, 32 MB L3", as far as the system tells.
std::string MachineName();

}  // namespace pot

#endif  // POT_TESTS_BENCH_REPORT_H_
