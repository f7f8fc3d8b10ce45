#include "client/models_commands.h"

namespace pot {

void AddModelsCommand(const Command& app, CommandFunction* selected) {
  const Command models = app.AddCommand(
      "models", "List, load, import and name versions of models");
  models.RequireCommand();
  AddModelQueryCommands(models, selected);
  AddModelImportCommand(models, selected);
  AddModelRegisterCommand(models, selected);
  AddModelChangeCommands(models, selected);
}

}  // namespace pot
