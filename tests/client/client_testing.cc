#include "tests/client/client_testing.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <optional>
#include <thread>

#include "absl/strings/string_view.h"
#include "client/command_line.h"
#include "client/console.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content) : file_(std::tmpfile()) {
    EXPECT_NE(file_, nullptr);
    EXPECT_EQ(write(fd(), content.data(), content.size()),
              static_cast<ssize_t>(content.size()));
    lseek(fd(), 0, SEEK_SET);
  }
  ~TemporaryFile() { std::fclose(file_); }

  int fd() const { return fileno(file_); }
  std::string Content() const {
    lseek(fd(), 0, SEEK_SET);
    std::string content;
    char piece[4096];
    for (ssize_t n; (n = read(fd(), piece, sizeof(piece))) > 0;) {
      content.append(piece, static_cast<size_t>(n));
    }
    return content;
  }

 private:
  std::FILE* const file_;
};

class Pipe {
 public:
  // As pot_client_main.cc does.
  Pipe() {
    signal(SIGPIPE, SIG_IGN);
    EXPECT_EQ(pipe(ends_), 0);
  }
  ~Pipe() {
    CloseReader();
    CloseWriter();
  }

  int reader() const { return ends_[0]; }
  int writer() const { return ends_[1]; }
  void CloseReader() { Close(&ends_[0]); }
  void CloseWriter() { Close(&ends_[1]); }
  void WriteAndClose(absl::string_view content) {
    while (!content.empty()) {
      const ssize_t written = write(writer(), content.data(), content.size());
      if (written < 0) break;
      content.remove_prefix(static_cast<size_t>(written));
    }
    CloseWriter();
  }

 private:
  static void Close(int* fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
  }

  int ends_[2] = {-1, -1};
};

// A terminal of which a thread keeps all that is written.
class Terminal {
 public:
  explicit Terminal(int columns) : master_(posix_openpt(O_RDWR | O_NOCTTY)) {
    EXPECT_EQ(grantpt(master_), 0);
    EXPECT_EQ(unlockpt(master_), 0);
    slave_ = open(ptsname(master_), O_RDWR | O_NOCTTY);
    EXPECT_GE(slave_, 0);
    winsize size = {};
    size.ws_col = static_cast<unsigned short>(columns);
    EXPECT_EQ(ioctl(slave_, TIOCSWINSZ, &size), 0);
    reader_ = std::thread([this] {
      char piece[4096];
      // Fails once the slave is closed.
      for (ssize_t n; (n = read(master_, piece, sizeof(piece))) > 0;) {
        content_.append(piece, static_cast<size_t>(n));
      }
    });
  }
  ~Terminal() {
    if (reader_.joinable()) Content();
    close(master_);
  }

  int fd() const { return slave_; }
  // Ends it.
  std::string Content() {
    close(slave_);
    reader_.join();
    return content_;
  }

 private:
  const int master_;
  int slave_ = -1;
  std::string content_;
  std::thread reader_;
};

}  // namespace

ClientRun RunPotClient(const std::vector<std::string>& arguments,
                       const ClientInput& input) {
  const TemporaryFile in(input.in), out(""), err("");
  Interrupter interrupter;
  Pipe in_pipe, out_pipe;
  std::thread writer;
  if (input.in_is_pipe) {
    writer = std::thread([&] { in_pipe.WriteAndClose(input.in); });
  }
  if (input.out_is_closed) out_pipe.CloseReader();
  std::optional<Terminal> terminal;
  if (input.err_columns > 0) terminal.emplace(input.err_columns);
  Console console(input.in_is_pipe ? in_pipe.reader() : in.fd(),
                  input.out_is_closed ? out_pipe.writer() : out.fd(),
                  terminal.has_value() ? terminal->fd() : err.fd(),
                  &interrupter);
  ClientEnvironment environment;
  environment.console = &console;
  environment.interrupter = &interrupter;
  environment.now = [&input] { return input.now; };
  environment.get_environment =
      [&input](const std::string& name) -> std::optional<std::string> {
    const auto found = input.environment.find(name);
    if (found == input.environment.end()) return std::nullopt;
    return found->second;
  };
  std::thread beside;
  if (input.beside) {
    beside = std::thread(input.beside, &interrupter, [&out] {
      struct stat status = {};
      EXPECT_EQ(fstat(out.fd(), &status), 0);
      return static_cast<int64_t>(status.st_size);
    });
  }
  ClientRun run;
  run.exit_code = RunClient(arguments, environment);
  if (beside.joinable()) beside.join();
  in_pipe.CloseReader();
  if (writer.joinable()) writer.join();
  run.out = out.Content();
  run.err = terminal.has_value() ? terminal->Content() : err.Content();
  return run;
}

}  // namespace pot
