#ifndef POT_CLIENT_PROGRESS_BAR_H_
#define POT_CLIENT_PROGRESS_BAR_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "client/console.h"
#include "client/status_line.h"

namespace pot {

// "[###...]" with `share` of its cells filled. A share outside [0, 1], or NaN,
// is drawn as the nearer end.
std::string DrawBar(double share, int cells);

// A label, a bar and a note in a StatusLine.
class ProgressBar {
 public:
  ProgressBar(Console* console, std::string label);

  // A line above the bar; without a terminal, too.
  void Print(absl::string_view line);

  // `total` of 0 or less is unknown: no bar, only the label and `note`.
  void Update(int64_t done, int64_t total, absl::string_view note = "");

 private:
  Console* const console_;
  const std::string label_;
  StatusLine line_;
};

}  // namespace pot

#endif  // POT_CLIENT_PROGRESS_BAR_H_
