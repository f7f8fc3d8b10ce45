#ifndef POT_CLIENT_STATUS_LINE_H_
#define POT_CLIENT_STATUS_LINE_H_

#include <chrono>
#include <string>

#include "client/console.h"

namespace pot {

// A line at the bottom of the error stream's terminal, redrawn at most ten
// times a second and never wider than the terminal. Silent when the error
// stream is none.
class StatusLine {
 public:
  explicit StatusLine(Console* console);
  // Erases it.
  ~StatusLine();
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  // `text` is what the line says from now on: printable, one column per code
  // point.
  void Set(std::string text);
  // Whether Set() would draw now, so that nobody composes text in vain: always
  // while it is hidden.
  bool due() const;
  // Erases it, so that other lines can be written.
  void Hide();
  // Draws it again if it is hidden.
  void Show();

 private:
  void Draw();

  using Clock = std::chrono::steady_clock;

  Console* const console_;
  Clock::time_point drawn_;
  std::string text_;
  bool visible_ = false;
};

}  // namespace pot

#endif  // POT_CLIENT_STATUS_LINE_H_
