#include "client/status_line.h"

#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/text_format.h"

namespace pot {
namespace {

constexpr auto kRedrawInterval = std::chrono::milliseconds(100);
constexpr char kErase[] = "\r\x1b[K";

}  // namespace

StatusLine::StatusLine(Console* console)
    : console_(console), drawn_(Clock::now() - kRedrawInterval) {}

StatusLine::~StatusLine() { Hide(); }

bool StatusLine::due() const {
  return console_->err_is_terminal() &&
         (!visible_ || Clock::now() - drawn_ >= kRedrawInterval);
}

void StatusLine::Set(std::string text) {
  const bool draw = due();
  text_ = std::move(text);
  if (draw) Draw();
}

void StatusLine::Hide() {
  if (visible_) console_->WriteError(kErase);
  visible_ = false;
}

void StatusLine::Show() {
  if (!visible_ && console_->err_is_terminal() && !text_.empty()) Draw();
}

void StatusLine::Draw() {
  drawn_ = Clock::now();
  visible_ = true;
  // A full last column would wrap on some terminals.
  const auto columns = static_cast<size_t>(console_->err_columns() - 1);
  console_->WriteError(absl::StrCat(kErase, CutToColumns(text_, columns)));
}

}  // namespace pot
