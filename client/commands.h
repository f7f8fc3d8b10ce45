// The subcommands of pot-client. Each Add..Command() declares its flags below
// `app`; when it is the one that the command line names, it sets `*selected` to
// what must run.
#ifndef POT_CLIENT_COMMANDS_H_
#define POT_CLIENT_COMMANDS_H_

#include <functional>

#include "absl/status/status.h"
#include "client/cli/command.h"
#include "client/session.h"

namespace pot {

using CommandFunction = std::function<absl::Status(Session*)>;

void AddGenerateCommand(const Command& app, CommandFunction* selected);
void AddReplCommand(const Command& app, CommandFunction* selected);
void AddReplayCommand(const Command& app, CommandFunction* selected);
void AddPerplexityCommand(const Command& app, CommandFunction* selected);
void AddScoreCommand(const Command& app, CommandFunction* selected);
void AddTokenizeCommand(const Command& app, CommandFunction* selected);
void AddDetokenizeCommand(const Command& app, CommandFunction* selected);
void AddModelsCommand(const Command& app, CommandFunction* selected);
void AddSubmitQatCommand(const Command& app, CommandFunction* selected);
void AddJobsCommand(const Command& app, CommandFunction* selected);
void AddBenchCommand(const Command& app, CommandFunction* selected);
void AddHealthCommand(const Command& app, CommandFunction* selected);
void AddTokensCommand(const Command& app, CommandFunction* selected);
// Writes scripts for all commands of `app`, so it comes last.
void AddCompletionCommand(const Command& app, CommandFunction* selected);

}  // namespace pot

#endif  // POT_CLIENT_COMMANDS_H_
