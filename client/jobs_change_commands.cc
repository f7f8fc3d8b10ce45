#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/enum_names.h"
#include "client/job_calls.h"
#include "client/job_event.h"
#include "client/jobs_commands.h"
#include "client/text_format.h"
#include "engine/base/status_macros.h"
#include "grpcpp/grpcpp.h"

namespace pot {
namespace {

using Stub = v1::TrainingService::Stub;

absl::Status WriteJob(Session* session, const v1::QatJob& job) {
  if (!session->text_output()) return WriteJson(session, job);
  std::string text =
      absl::StrCat(Printable(job.job_id()), " ", JobStateName(job.state()));
  if (job.progress().step() > 0) {
    absl::StrAppend(&text, ", ", FormatSteps(job.progress()));
  }
  if (!job.state_message().empty()) {
    absl::StrAppend(&text, ": ", Printable(job.state_message()));
  }
  return session->console().Write(absl::StrCat(text, "\n"));
}

// A call about one job whose answer is the job.
template <typename Request, typename Response>
absl::Status Change(Session* session,
                    grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                 const Request&, Response*),
                    const Request& request) {
  Response response;
  Call call(session->connection());
  const std::unique_ptr<Stub> stub = TrainingStub(session);
  POT_RETURN_IF_ERROR(
      call.ToStatus((stub.get()->*method)(call.context(), request, &response)));
  return WriteJob(session, response.job());
}

// Declares such a call with nothing but the job's id.
template <typename Request, typename Response>
Command AddChange(const Command& jobs, CommandFunction* selected,
                  const std::string& name, const std::string& description,
                  const std::shared_ptr<Request>& request,
                  grpc::Status (Stub::*method)(grpc::ClientContext*,
                                               const Request&, Response*)) {
  const Command command = jobs.AddCommand(name, description);
  AddValueFlag<std::string>(
      command, "job",
      [request](const std::string& v) { request->set_job_id(v); }, "Its id")
      .Required();
  command.OnSelected([=] {
    *selected = [=](Session* session) {
      return Change(session, method, *request);
    };
  });
  return command;
}

absl::Status Publish(Session* session,
                     const v1::PublishCheckpointRequest& request) {
  v1::PublishCheckpointResponse response;
  Call call(session->connection());
  POT_RETURN_IF_ERROR(call.ToStatus(TrainingStub(session)->PublishCheckpoint(
      call.context(), request, &response)));
  if (!session->text_output()) return WriteJson(session, response.published());
  return session->console().Write(absl::StrCat(
      "published as ", FormatIdentity(response.published()), "\n"));
}

absl::Status Remove(Session* session, const std::vector<std::string>& jobs) {
  for (const std::string& job : jobs) {
    v1::DeleteJobRequest request;
    request.set_job_id(job);
    v1::DeleteJobResponse response;
    Call call(session->connection());
    POT_RETURN_IF_ERROR(call.ToStatus(
        TrainingStub(session)->DeleteJob(call.context(), request, &response)));
    if (session->text_output()) {
      POT_RETURN_IF_ERROR(session->console().Write(
          absl::StrCat("deleted ", Printable(job), "\n")));
    } else {
      POT_RETURN_IF_ERROR(WriteJson(session, request));
    }
  }
  return absl::OkStatus();
}

void AddPublishCommand(const Command& jobs, CommandFunction* selected) {
  auto request = std::make_shared<v1::PublishCheckpointRequest>();
  const Command publish = jobs.AddCommand(
      "publish", "Make a version of one of a job's checkpoints");
  AddValueFlag<std::string>(
      publish, "job", [=](const std::string& v) { request->set_job_id(v); },
      "The job's id")
      .Required();
  AddValueFlag<std::string>(
      publish, "checkpoint",
      [=](const std::string& v) { request->set_checkpoint_id(v); },
      "The checkpoint's id [the best one]");
  publish.AddSwitch(
      "--force", [=](int64_t v) { request->set_force(v > 0); },
      "Whatever the gate says");
  AddValueFlag<std::string>(
      publish, "--comment",
      [=](const std::string& v) { request->set_comment(v); },
      "Why, for the alias's history");
  publish.OnSelected([=] {
    *selected = [=](Session* session) { return Publish(session, *request); };
  });
}

}  // namespace

void AddJobChangeCommands(const Command& jobs, CommandFunction* selected) {
  auto cancel = std::make_shared<v1::CancelJobRequest>();
  AddValueFlag<std::string>(
      AddChange(jobs, selected, "cancel",
                "End a job at its next step and keep its checkpoints", cancel,
                &Stub::CancelJob),
      "--comment", [=](const std::string& v) { cancel->set_comment(v); },
      "Why, for its events");
  AddChange(jobs, selected, "pause",
            "Snapshot a job at its next step and free the worker",
            std::make_shared<v1::PauseJobRequest>(), &Stub::PauseJob);
  AddChange(jobs, selected, "resume", "Queue a paused job again",
            std::make_shared<v1::ResumeJobRequest>(), &Stub::ResumeJob);
  AddChange(jobs, selected, "stop",
            "End the training as if it were done: gate and publication follow",
            std::make_shared<v1::StopEarlyAndPublishRequest>(),
            &Stub::StopEarlyAndPublish);
  AddPublishCommand(jobs, selected);

  auto removed = std::make_shared<std::vector<std::string>>();
  const Command remove =
      jobs.AddCommand("rm", "Delete final jobs; published versions stay");
  remove.AddFlag("job", removed.get(), "Their ids").Required();
  remove.OnSelected([=] {
    *selected = [=](Session* session) { return Remove(session, *removed); };
  });
}

}  // namespace pot
