#include "client/models_commands.h"

namespace pot {

void AddModelsCommand(CLI::App* app, CommandFunction* selected) {
  CLI::App* const models = app->add_subcommand(
      "models", "List, load, import and name versions of models");
  models->require_subcommand(1);
  AddModelQueryCommands(models, selected);
  AddModelImportCommand(models, selected);
  AddModelRegisterCommand(models, selected);
  AddModelChangeCommands(models, selected);
}

}  // namespace pot
