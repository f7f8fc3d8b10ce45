#ifndef POT_CLIENT_CONSOLE_H_
#define POT_CLIENT_CONSOLE_H_

#include <cstddef>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/interrupter.h"

namespace pot {

// Reads from a file descriptor until Ctrl-C. CANCELLED after an interrupt; 0 at
// the end of the input.
absl::StatusOr<size_t> ReadInterruptibly(int fd, char* buffer, size_t size,
                                         const Interrupter& interrupter);

// The three standard streams as file descriptors: data goes out, everything
// meant for a person goes to the error stream. Nothing is buffered.
class Console {
 public:
  // Borrows the descriptors and `interrupter`.
  Console(int in, int out, int err, const Interrupter* interrupter);

  bool in_is_terminal() const { return in_is_terminal_; }
  bool out_is_terminal() const { return out_is_terminal_; }
  bool err_is_terminal() const { return err_is_terminal_; }

  // Width of the error stream's terminal; 80 when it does not tell.
  int err_columns() const;

  // Writes data in full. CANCELLED when the reader is gone (EPIPE), which
  // out_closed() then tells, too.
  absl::Status Write(absl::string_view data);
  bool out_closed() const { return out_closed_; }

  // A message to the person; a failure to write it is ignored.
  void WriteError(absl::string_view text);

  int in_fd() const { return in_; }
  // The next line without its end; nothing at the end of the input.
  // INVALID_ARGUMENT for a line longer than `max_bytes`.
  absl::StatusOr<std::optional<std::string>> ReadLine(size_t max_bytes);
  // Drops what was read of an unfinished line.
  void DiscardLine() { pending_.clear(); }
  // All that is left. INVALID_ARGUMENT when it is longer than `max_bytes`.
  absl::StatusOr<std::string> ReadAll(size_t max_bytes);

 private:
  const int in_, out_, err_;
  const Interrupter* const interrupter_;
  const bool in_is_terminal_, out_is_terminal_, err_is_terminal_;
  bool out_closed_ = false;
  // Read and not yet returned.
  std::string pending_;
};

}  // namespace pot

#endif  // POT_CLIENT_CONSOLE_H_
