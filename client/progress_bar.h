#ifndef POT_CLIENT_PROGRESS_BAR_H_
#define POT_CLIENT_PROGRESS_BAR_H_

#include <chrono>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "client/console.h"

namespace pot {

// One line on the error stream, redrawn at most ten times a second. Silent
// when that is no terminal.
class ProgressBar {
 public:
  ProgressBar(Console* console, std::string label);
  // Erases it.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // `total` of 0 or less is unknown: no bar, only the label and `note`.
  void Update(int64_t done, int64_t total, absl::string_view note = "");

 private:
  using Clock = std::chrono::steady_clock;

  Console* const console_;
  const std::string label_;
  Clock::time_point drawn_;
  bool visible_ = false;
};

}  // namespace pot

#endif  // POT_CLIENT_PROGRESS_BAR_H_
