#include "trainer/progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_format.h"

namespace pot {
namespace {

constexpr int kBarCells = 30;
constexpr auto kRedrawInterval = std::chrono::milliseconds(100);

}  // namespace

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      drawn_(start_ - kRedrawInterval) {}

ProgressBar::~ProgressBar() {
  if (visible_) std::fputs("\r\x1b[K", stderr);
}

void ProgressBar::Update(int64_t done, int64_t total) {
  const Clock::time_point now = Clock::now();
  if (!terminal_ || total <= 0 || now - drawn_ < kRedrawInterval) return;
  drawn_ = now;
  visible_ = true;
  const double share = std::clamp(
      static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const int cells = static_cast<int>(share * kBarCells);
  std::string line = absl::StrFormat(
      "\r\x1b[K%s [%s%s] %3.0f %%", label_, std::string(cells, '#'),
      std::string(kBarCells - cells, '.'), 100 * share);
  if (share > 0.01) {
    absl::StrAppendFormat(&line, "  %.0f s left",
                          elapsed * (1 - share) / share);
  }
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace pot
