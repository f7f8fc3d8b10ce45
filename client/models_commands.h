// The commands below `pot-client models`, as in commands.h.
#ifndef POT_CLIENT_MODELS_COMMANDS_H_
#define POT_CLIENT_MODELS_COMMANDS_H_

#include "client/cli/command.h"
#include "client/commands.h"

namespace pot {

// list, show, history, diff, watch.
void AddModelQueryCommands(const Command& models, CommandFunction* selected);
// load, unload, alias, rollback, rm.
void AddModelChangeCommands(const Command& models, CommandFunction* selected);
// import, register.
void AddModelImportCommand(const Command& models, CommandFunction* selected);
void AddModelRegisterCommand(const Command& models, CommandFunction* selected);

}  // namespace pot

#endif  // POT_CLIENT_MODELS_COMMANDS_H_
