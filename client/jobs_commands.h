// The commands below `pot-client jobs`, as in commands.h.
#ifndef POT_CLIENT_JOBS_COMMANDS_H_
#define POT_CLIENT_JOBS_COMMANDS_H_

#include "client/cli/command.h"
#include "client/commands.h"

namespace pot {

// list, show, watch, checkpoints.
void AddJobQueryCommands(const Command& jobs, CommandFunction* selected);
// cancel, pause, resume, stop, publish, rm.
void AddJobChangeCommands(const Command& jobs, CommandFunction* selected);
// plot.
void AddJobPlotCommand(const Command& jobs, CommandFunction* selected);

}  // namespace pot

#endif  // POT_CLIENT_JOBS_COMMANDS_H_
