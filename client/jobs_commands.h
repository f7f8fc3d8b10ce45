// The commands below `pot-client jobs`, as in commands.h.
#ifndef POT_CLIENT_JOBS_COMMANDS_H_
#define POT_CLIENT_JOBS_COMMANDS_H_

#include "client/commands.h"

namespace pot {

// list, show, watch, checkpoints.
void AddJobQueryCommands(CLI::App* jobs, CommandFunction* selected);
// cancel, pause, resume, stop, publish, rm.
void AddJobChangeCommands(CLI::App* jobs, CommandFunction* selected);
// plot.
void AddJobPlotCommand(CLI::App* jobs, CommandFunction* selected);

}  // namespace pot

#endif  // POT_CLIENT_JOBS_COMMANDS_H_
