#ifndef POT_CLIENT_SPARKLINE_H_
#define POT_CLIENT_SPARKLINE_H_

#include <cstddef>
#include <string>
#include <vector>

namespace pot {

// `values` as at most `width` characters of eight heights, the lowest and the
// highest of the values being the ends; each character is the mean of an equal
// share of the values, and all are in the middle when they are equal. Values
// that are not finite are left out. Blocks, or ASCII.
std::string Sparkline(const std::vector<double>& values, size_t width,
                      bool utf8);

// A series of any length in bounded memory: when it is full, neighbours are
// averaged and from then on as many more values make one.
class ValueHistory {
 public:
  // `capacity` is even.
  explicit ValueHistory(size_t capacity) : capacity_(capacity) {}

  void Add(double value);
  const std::vector<double>& values() const { return values_; }

 private:
  const size_t capacity_;
  std::vector<double> values_;
  // How many values make one, and those of the next one.
  size_t group_ = 1;
  size_t pending_ = 0;
  double sum_ = 0;
};

}  // namespace pot

#endif  // POT_CLIENT_SPARKLINE_H_
