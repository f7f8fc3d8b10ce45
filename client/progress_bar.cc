#include "client/progress_bar.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/text_format.h"

namespace pot {
namespace {

constexpr int kCells = 30;
constexpr auto kRedrawInterval = std::chrono::milliseconds(100);

}  // namespace

ProgressBar::ProgressBar(Console* console, std::string label)
    : console_(console),
      label_(Printable(label)),
      drawn_(Clock::now() - kRedrawInterval) {}

ProgressBar::~ProgressBar() {
  if (visible_) console_->WriteError("\r\x1b[K");
}

void ProgressBar::Update(int64_t done, int64_t total, absl::string_view note) {
  const Clock::time_point now = Clock::now();
  if (!console_->err_is_terminal() || now - drawn_ < kRedrawInterval) return;
  drawn_ = now;
  visible_ = true;
  std::string line = absl::StrCat("\r\x1b[K", label_);
  if (total > 0) {
    const double share = std::clamp(
        static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
    const int cells = static_cast<int>(share * kCells);
    absl::StrAppendFormat(&line, " [%s%s] %3.0f %%", std::string(cells, '#'),
                          std::string(kCells - cells, '.'), 100 * share);
  }
  absl::StrAppend(&line, note.empty() ? "" : "  ", note);
  console_->WriteError(line);
}

}  // namespace pot
