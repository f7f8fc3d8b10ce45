// pot-client: what people type to use pot-server; see --help. Data on standard
// output, everything else on standard error.
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "client/command_line.h"

int main(int argc, char** argv) {
  // A closed pipe is an error of write(2), not the end.
  signal(SIGPIPE, SIG_IGN);
  // Errors reach the person as this program's own messages.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  pot::Interrupter interrupter;
  pot::InterruptSignal interrupt_signal(&interrupter);
  pot::Console console(STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO,
                       &interrupter);
  pot::ClientEnvironment environment;
  environment.console = &console;
  environment.interrupter = &interrupter;
  environment.get_environment =
      [](const std::string& name) -> std::optional<std::string> {
    const char* const value = std::getenv(name.c_str());
    if (value == nullptr) return std::nullopt;
    return value;
  };
  std::vector<std::string> arguments(argv, argv + argc);
  if (!arguments.empty()) arguments.erase(arguments.begin());
  return pot::RunClient(arguments, environment);
}
