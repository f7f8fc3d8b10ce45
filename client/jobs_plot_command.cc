#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/job_calls.h"
#include "client/job_curves.h"
#include "client/job_plot.h"
#include "client/jobs_commands.h"
#include "client/plot/plot_file.h"
#include "client/progress_bar.h"
#include "client/text_format.h"
#include "engine/base/status_macros.h"
#include "grpcpp/grpcpp.h"

namespace pot {
namespace {

// The curves of the job's events up to now.
absl::StatusOr<JobCurves> ReadCurves(Session* session, const v1::QatJob& job) {
  JobCurves curves;
  if (job.last_sequence() < 1) return curves;
  Call call(session->connection());
  const auto stub = TrainingStub(session);
  v1::WatchJobRequest request;
  request.set_job_id(job.job_id());
  const auto reader = stub->WatchJob(call.context(), request);
  ProgressBar bar(&session->console(), absl::StrCat("reading ", job.job_id()));
  v1::WatchJobResponse response;
  bool all = false;
  while (!all && reader->Read(&response)) {
    curves.Add(response.event());
    bar.Update(response.event().sequence(), job.last_sequence());
    all = response.event().sequence() >= job.last_sequence();
  }
  if (all) call.context()->TryCancel();
  const grpc::Status status = reader->Finish();
  if (!all) POT_RETURN_IF_ERROR(call.ToStatus(status));
  return curves;
}

absl::Status Plot(Session* session, const std::string& job_id,
                  const std::string& path) {
  if (path.empty()) {
    return absl::InvalidArgumentError(
        "no file to draw into: --out FILE.svg or --out FILE.png");
  }
  POT_ASSIGN_OR_RETURN(const PlotFormat format, PlotFormatOf("--out", path));
  POT_ASSIGN_OR_RETURN(const v1::QatJob job, GetJob(session, job_id));
  POT_ASSIGN_OR_RETURN(const JobCurves curves, ReadCurves(session, job));
  if (curves.training().empty() && curves.validation().empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("job ", Printable(job_id), " has measured nothing yet"));
  }
  POT_RETURN_IF_ERROR(DrawPlot(MakePlotScript(job, curves, format), path));
  session->console().WriteError(
      absl::StrCat(Printable(path), ": ", curves.training().size(),
                   " measurements of training, ", curves.validation().size(),
                   " evaluations\n"));
  return absl::OkStatus();
}

}  // namespace

void AddJobPlotCommand(const Command& jobs, CommandFunction* selected) {
  struct Flags {
    std::string job_id, path;
  };
  auto flags = std::make_shared<Flags>();
  const Command plot = jobs.AddCommand(
      "plot", "Draw a job's losses and learning rate with gnuplot");
  plot.AddFlag("job", &flags->job_id, "Its id").Required();
  plot.AddFlag("--out", &flags->path, "FILE.svg or FILE.png").TypeName("FILE");
  plot.OnSelected([=] {
    *selected = [=](Session* session) {
      return Plot(session, flags->job_id, flags->path);
    };
  });
}

}  // namespace pot
