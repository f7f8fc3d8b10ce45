#include "client/job_watch.h"

#include "absl/strings/str_cat.h"
#include "client/enum_names.h"
#include "client/exit_code.h"
#include "client/job_calls.h"
#include "client/job_report.h"
#include "client/job_view.h"
#include "client/text_format.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

int ExitCodeOfJob(v1::QatJobState state) {
  switch (state) {
    case v1::QAT_JOB_STATE_FAILED:
      return kExitJobFailed;
    case v1::QAT_JOB_STATE_CANCELLED:
      return kExitJobCancelled;
    case v1::QAT_JOB_STATE_GATE_REJECTED:
      return kExitGateRejected;
    default:
      return kExitOk;
  }
}

// The end of a watching that is not that of the job.
void SayHowToComeBack(Session* session, const std::string& job_id,
                      const absl::Status& status) {
  Console& console = session->console();
  const std::string command = WatchCommand(session, job_id);
  if (session->interrupter().interrupted()) {
    console.WriteError(
        absl::StrCat("pot-client: detached, the job goes on; "
                     "come back with: ",
                     command, "\n"));
  } else if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status)) {
    console.WriteError(
        absl::StrCat("pot-client: to come back: ", command, "\n"));
  }
}

}  // namespace

absl::Status WatchJob(Session* session, const std::string& job_id,
                      int64_t after_sequence) {
  JobView view(session);
  JobEventHandler handler;
  handler.on_event = [&view](const v1::WatchJobResponse& response) {
    return view.OnEvent(response);
  };
  handler.on_lost = [&view](const absl::Status& why) { view.OnLost(why); };
  const absl::StatusOr<v1::QatJob> job =
      FollowJob(session, job_id, after_sequence, handler);
  view.Finish();
  if (!job.ok()) {
    SayHowToComeBack(session, job_id, job.status());
    return job.status();
  }
  session->set_exit_code(ExitCodeOfJob(job->state()));
  if (session->flags().output == OutputFormat::kJson) {
    POT_RETURN_IF_ERROR(WriteJson(session, *job));
  }
  const std::string outcome =
      absl::StrCat("job ", Printable(job->job_id()), " ",
                   JobStateName(job->state()), ": ", FormatOutcome(*job), "\n");
  if (session->exit_code() != kExitOk) {
    session->console().WriteError(absl::StrCat("pot-client: ", outcome));
    return absl::OkStatus();
  }
  return session->text_output() ? session->console().Write(outcome)
                                : absl::OkStatus();
}

}  // namespace pot
