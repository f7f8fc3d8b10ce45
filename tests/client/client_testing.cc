#include "tests/client/client_testing.h"

#include <signal.h>
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
  Console console(input.in_is_pipe ? in_pipe.reader() : in.fd(),
                  input.out_is_closed ? out_pipe.writer() : out.fd(), err.fd(),
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
  run.err = err.Content();
  return run;
}

}  // namespace pot
