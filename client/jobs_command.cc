#include "client/jobs_commands.h"

namespace pot {

void AddJobsCommand(const Command& app, CommandFunction* selected) {
  const Command jobs =
      app.AddCommand("jobs", "Watch, steer and publish training jobs");
  jobs.RequireCommand();
  AddJobQueryCommands(jobs, selected);
  AddJobChangeCommands(jobs, selected);
  AddJobPlotCommand(jobs, selected);
}

}  // namespace pot
