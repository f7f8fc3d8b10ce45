#ifndef POT_TRAINER_PROGRESS_BAR_H_
#define POT_TRAINER_PROGRESS_BAR_H_

#include <chrono>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace pot {

// One line on standard error, redrawn at most ten times a second, with the
// share done and the time left. Silent when standard error is no terminal.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // `note` follows the bar.
  void Update(int64_t done, int64_t total, absl::string_view note = "");
  // Prints a line above the bar; without a terminal, too.
  void Print(absl::string_view line);

 private:
  using Clock = std::chrono::steady_clock;

  const std::string label_;
  const bool terminal_;
  Clock::time_point start_;
  Clock::time_point drawn_;
  bool visible_ = false;
  int64_t first_ = -1;  // `done` of the first Update
};

}  // namespace pot

#endif  // POT_TRAINER_PROGRESS_BAR_H_
