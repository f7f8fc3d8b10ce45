#include "client/jobs_commands.h"

namespace pot {

void AddJobsCommand(CLI::App* app, CommandFunction* selected) {
  CLI::App* const jobs =
      app->add_subcommand("jobs", "Watch, steer and publish training jobs");
  jobs->require_subcommand(1);
  AddJobQueryCommands(jobs, selected);
  AddJobChangeCommands(jobs, selected);
  AddJobPlotCommand(jobs, selected);
}

}  // namespace pot
