#include "trainer/progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace pot {
namespace {

constexpr int kBarCells = 30;
constexpr auto kRedrawInterval = std::chrono::milliseconds(100);

std::string TimeLeft(double seconds) {
  const auto whole = static_cast<int64_t>(seconds);
  if (whole < 120) return absl::StrFormat("%d s left", whole);
  if (whole < 2 * 3600) return absl::StrFormat("%d min left", whole / 60);
  return absl::StrFormat("%.1f h left", seconds / 3600);
}

}  // namespace

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      drawn_(start_ - kRedrawInterval) {}

ProgressBar::~ProgressBar() {
  if (visible_) std::fputs("\r\x1b[K", stderr);
}

void ProgressBar::Print(absl::string_view line) {
  absl::FPrintF(stderr, "%s%s\n", visible_ ? "\r\x1b[K" : "", line);
  drawn_ = Clock::time_point();
}

void ProgressBar::Update(int64_t done, int64_t total, absl::string_view note) {
  const Clock::time_point now = Clock::now();
  if (first_ < 0) {
    first_ = done;
    start_ = now;
  }
  if (!terminal_ || total <= 0 || now - drawn_ < kRedrawInterval) return;
  drawn_ = now;
  visible_ = true;
  const double share = std::clamp(
      static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
  const int cells = static_cast<int>(share * kBarCells);
  std::string line = absl::StrFormat(
      "\r\x1b[K%s [%s%s] %3.0f %%", label_, std::string(cells, '#'),
      std::string(kBarCells - cells, '.'), 100 * share);
  // What was done before the first call, a resumed work's, took other time.
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const auto since = static_cast<double>(done - first_);
  if (since > 0.01 * static_cast<double>(total - first_) ||
      (since > 0 && elapsed > 10)) {
    absl::StrAppend(
        &line, "  ",
        TimeLeft(elapsed * static_cast<double>(total - done) / since));
  }
  if (!note.empty()) absl::StrAppend(&line, "  ", note);
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace pot
