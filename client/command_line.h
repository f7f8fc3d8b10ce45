#ifndef POT_CLIENT_COMMAND_LINE_H_
#define POT_CLIENT_COMMAND_LINE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/cli/command.h"
#include "client/commands.h"
#include "client/console.h"
#include "client/flag_sources.h"
#include "client/flags.h"
#include "client/interrupter.h"

namespace pot {

// The world outside, borrowed.
struct ClientEnvironment {
  Console* console;
  Interrupter* interrupter;
  GetEnvironment get_environment;
  std::function<absl::Time()> now = [] { return absl::Now(); };
};

// Declares every flag and command.
void AddAllCommands(const Command& program, CommonFlags* flags,
                    CommandFunction* selected);

// Runs pot-client with `arguments`, the program's name not among them, and
// returns its exit code (exit_code.h). Errors become one line on the console's
// error stream; nothing throws.
int RunClient(const std::vector<std::string>& arguments,
              const ClientEnvironment& environment);

}  // namespace pot

#endif  // POT_CLIENT_COMMAND_LINE_H_
