#include "client/progress_bar.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/text_format.h"

namespace pot {
namespace {

constexpr int kCells = 30;

}  // namespace

std::string DrawBar(double share, int cells) {
  const double inside = share > 0 ? std::min(share, 1.0) : 0.0;
  const int filled = static_cast<int>(inside * cells);
  return absl::StrCat("[", std::string(static_cast<size_t>(filled), '#'),
                      std::string(static_cast<size_t>(cells - filled), '.'),
                      "]");
}

ProgressBar::ProgressBar(Console* console, std::string label)
    : console_(console), label_(Printable(label)), line_(console) {}

void ProgressBar::Print(absl::string_view line) {
  line_.Hide();
  console_->WriteError(absl::StrCat("pot-client: ", Printable(line), "\n"));
}

void ProgressBar::Update(int64_t done, int64_t total, absl::string_view note) {
  if (!line_.due()) return;
  std::string text = label_;
  if (total > 0) {
    const double share = std::clamp(
        static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
    absl::StrAppendFormat(&text, " %s %3.0f %%", DrawBar(share, kCells),
                          100 * share);
  }
  absl::StrAppend(&text, note.empty() ? "" : "  ", note);
  line_.Set(std::move(text));
}

}  // namespace pot
