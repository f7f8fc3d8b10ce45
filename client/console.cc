#include "client/console.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

constexpr size_t kPieceBytes = 64 * 1024;

// The errno of the first failure; 0 when all was written.
int WriteFully(int fd, absl::string_view data) {
  while (!data.empty()) {
    const ssize_t written = write(fd, data.data(), data.size());
    if (written >= 0) {
      data.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd ready = {fd, POLLOUT, 0};
      poll(&ready, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

}  // namespace

absl::StatusOr<size_t> ReadInterruptibly(int fd, char* buffer, size_t size,
                                         const Interrupter& interrupter) {
  for (;;) {
    pollfd ready[2] = {{fd, POLLIN, 0}, {interrupter.wake_fd(), POLLIN, 0}};
    if (poll(ready, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return absl::InternalError(absl::StrCat("poll: ", std::strerror(errno)));
    }
    if (ready[1].revents != 0) return absl::CancelledError("interrupted");
    const ssize_t count = read(fd, buffer, size);
    if (count >= 0) return static_cast<size_t>(count);
    if (errno == EINTR || errno == EAGAIN) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("cannot read the input: ", std::strerror(errno)));
  }
}

Console::Console(int in, int out, int err, const Interrupter* interrupter)
    : in_(in),
      out_(out),
      err_(err),
      interrupter_(interrupter),
      in_is_terminal_(isatty(in) == 1),
      out_is_terminal_(isatty(out) == 1),
      err_is_terminal_(isatty(err) == 1) {}

int Console::err_columns() const {
  winsize size = {};
  return ioctl(err_, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
                                                                : 80;
}

absl::Status Console::Write(absl::string_view data) {
  const int error = WriteFully(out_, data);
  if (error == 0) return absl::OkStatus();
  if (error == EPIPE) {
    out_closed_ = true;
    return absl::CancelledError("nobody reads standard output any more");
  }
  return absl::InternalError(
      absl::StrCat("cannot write standard output: ", std::strerror(error)));
}

void Console::WriteError(absl::string_view text) { WriteFully(err_, text); }

absl::StatusOr<std::optional<std::string>> Console::ReadLine(size_t max_bytes) {
  size_t searched = 0;
  for (;;) {
    const size_t end = pending_.find('\n', searched);
    if (end != std::string::npos && end <= max_bytes) {
      std::optional<std::string> line = pending_.substr(0, end);
      pending_.erase(0, end + 1);
      return line;
    }
    searched = pending_.size();
    if (searched > max_bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("a line is longer than ", max_bytes, " bytes"));
    }
    char piece[4096];
    POT_ASSIGN_OR_RETURN(
        const size_t count,
        ReadInterruptibly(in_, piece, sizeof(piece), *interrupter_));
    if (count == 0) {
      if (pending_.empty()) return std::optional<std::string>();
      return std::optional<std::string>(std::exchange(pending_, {}));
    }
    pending_.append(piece, count);
  }
}

absl::StatusOr<std::string> Console::ReadAll(size_t max_bytes) {
  std::string text = std::exchange(pending_, {});
  std::string piece(kPieceBytes, '\0');
  for (;;) {
    if (text.size() > max_bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("standard input is longer than ", max_bytes, " bytes"));
    }
    POT_ASSIGN_OR_RETURN(
        const size_t count,
        ReadInterruptibly(in_, piece.data(), piece.size(), *interrupter_));
    if (count == 0) return text;
    text.append(piece, 0, count);
  }
}

}  // namespace pot
