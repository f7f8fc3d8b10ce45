#include "tests/client/client_testing.h"

#include <unistd.h>

#include <cstdio>
#include <optional>
#include <thread>

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

}  // namespace

ClientRun RunPotClient(const std::vector<std::string>& arguments,
                       const ClientInput& input) {
  const TemporaryFile in(input.in), out(""), err("");
  Interrupter interrupter;
  Console console(in.fd(), out.fd(), err.fd(), &interrupter);
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
  if (input.beside) beside = std::thread(input.beside, &interrupter);
  ClientRun run;
  run.exit_code = RunClient(arguments, environment);
  if (beside.joinable()) beside.join();
  run.out = out.Content();
  run.err = err.Content();
  return run;
}

}  // namespace pot
