// The commands below `pot-client models`, as in commands.h.
#ifndef POT_CLIENT_MODELS_COMMANDS_H_
#define POT_CLIENT_MODELS_COMMANDS_H_

#include "client/commands.h"

namespace pot {

// list, show, history, diff, watch.
void AddModelQueryCommands(CLI::App* models, CommandFunction* selected);
// load, unload, alias, rollback, rm.
void AddModelChangeCommands(CLI::App* models, CommandFunction* selected);
// import, register.
void AddModelImportCommand(CLI::App* models, CommandFunction* selected);
void AddModelRegisterCommand(CLI::App* models, CommandFunction* selected);

}  // namespace pot

#endif  // POT_CLIENT_MODELS_COMMANDS_H_
