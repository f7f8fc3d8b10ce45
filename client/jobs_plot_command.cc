#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/gnuplot.h"
#include "client/job_calls.h"
#include "client/job_curves.h"
#include "client/job_plot.h"
#include "client/jobs_commands.h"
#include "client/progress_bar.h"
#include "client/text_format.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "grpcpp/grpcpp.h"

namespace pot {
namespace {

absl::StatusOr<PlotFormat> FormatOf(const std::string& path) {
  if (absl::EndsWithIgnoreCase(path, ".svg")) return PlotFormat::kSvg;
  if (absl::EndsWithIgnoreCase(path, ".png")) return PlotFormat::kPng;
  return absl::InvalidArgumentError(absl::StrCat(
      "--out ", Quote(path), " is not the name of an .svg or a .png file"));
}

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

// Writes beside `path` and renames, so that a figure is there whole or not at
// all.
absl::Status Replace(const std::string& path, const std::string& contents) {
  const std::string part = absl::StrCat(path, ".part");
  absl::Status status = WriteFile(part, contents);
  if (status.ok() && std::rename(part.c_str(), path.c_str()) != 0) {
    status = absl::InvalidArgumentError(absl::StrCat(
        "cannot write ", Printable(path), ": ", std::strerror(errno)));
  }
  if (!status.ok()) std::remove(part.c_str());
  return status;
}

absl::Status Plot(Session* session, const std::string& job_id,
                  const std::string& path) {
  if (path.empty()) {
    return absl::InvalidArgumentError(
        "no file to draw into: --out FILE.svg or --out FILE.png");
  }
  POT_ASSIGN_OR_RETURN(const PlotFormat format, FormatOf(path));
  POT_ASSIGN_OR_RETURN(const v1::QatJob job, GetJob(session, job_id));
  POT_ASSIGN_OR_RETURN(const JobCurves curves, ReadCurves(session, job));
  if (curves.training().empty() && curves.validation().empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("job ", Printable(job_id), " has measured nothing yet"));
  }
  POT_ASSIGN_OR_RETURN(const std::string figure,
                       RunGnuplot(MakePlotScript(job, curves, format)));
  POT_RETURN_IF_ERROR(Replace(path, figure));
  session->console().WriteError(
      absl::StrCat(Printable(path), ": ", curves.training().size(),
                   " measurements of training, ", curves.validation().size(),
                   " evaluations\n"));
  return absl::OkStatus();
}

}  // namespace

void AddJobPlotCommand(CLI::App* jobs, CommandFunction* selected) {
  struct Flags {
    std::string job_id, path;
  };
  auto flags = std::make_shared<Flags>();
  CLI::App* const plot = jobs->add_subcommand(
      "plot", "Draw a job's losses and learning rate with gnuplot");
  plot->add_option("job", flags->job_id, "Its id")->required();
  plot->add_option("--out", flags->path, "FILE.svg or FILE.png")
      ->type_name("FILE");
  plot->callback([=] {
    *selected = [=](Session* session) {
      return Plot(session, flags->job_id, flags->path);
    };
  });
}

}  // namespace pot
