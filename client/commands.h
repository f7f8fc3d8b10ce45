// The subcommands of pot-client. Each Add..Command() declares its flags below
// `app`; when it is the one that the command line names, it sets `*selected` to
// what must run.
#ifndef POT_CLIENT_COMMANDS_H_
#define POT_CLIENT_COMMANDS_H_

#include <functional>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "client/session.h"

namespace pot {

using CommandFunction = std::function<absl::Status(Session*)>;

void AddGenerateCommand(CLI::App* app, CommandFunction* selected);
void AddReplCommand(CLI::App* app, CommandFunction* selected);
void AddReplayCommand(CLI::App* app, CommandFunction* selected);
void AddPerplexityCommand(CLI::App* app, CommandFunction* selected);
void AddScoreCommand(CLI::App* app, CommandFunction* selected);
void AddTokenizeCommand(CLI::App* app, CommandFunction* selected);
void AddDetokenizeCommand(CLI::App* app, CommandFunction* selected);
void AddModelsCommand(CLI::App* app, CommandFunction* selected);
void AddSubmitQatCommand(CLI::App* app, CommandFunction* selected);
void AddJobsCommand(CLI::App* app, CommandFunction* selected);
void AddBenchCommand(CLI::App* app, CommandFunction* selected);
void AddHealthCommand(CLI::App* app, CommandFunction* selected);
void AddTokensCommand(CLI::App* app, CommandFunction* selected);
// Writes scripts for all commands of `app`, so it comes last.
void AddCompletionCommand(CLI::App* app, CommandFunction* selected);

}  // namespace pot

#endif  // POT_CLIENT_COMMANDS_H_
