#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/enum_names.h"
#include "client/job_calls.h"
#include "client/job_report.h"
#include "client/job_watch.h"
#include "client/jobs_commands.h"
#include "engine/base/status_macros.h"
#include "google/protobuf/descriptor.h"
#include "grpcpp/grpcpp.h"

namespace pot {
namespace {

// ListJobsRequest.page_size's limit.
constexpr int64_t kMaxPage = 1000;

// "gate-rejected" and so on, but for the state that says nothing.
std::vector<std::string> StateChoices() {
  std::vector<std::string> names;
  const auto& type = *v1::QatJobState_descriptor();
  for (int i = 0; i < type.value_count(); ++i) {
    const auto state = static_cast<v1::QatJobState>(type.value(i)->number());
    if (state == v1::QAT_JOB_STATE_UNSPECIFIED) continue;
    names.push_back(absl::StrReplaceAll(
        absl::AsciiStrToLower(JobStateName(state)), {{"_", "-"}}));
  }
  return names;
}

v1::QatJobState ParseState(const std::string& choice) {
  v1::QatJobState state = v1::QAT_JOB_STATE_UNSPECIFIED;
  v1::QatJobState_Parse(
      absl::StrCat("QAT_JOB_STATE_", absl::AsciiStrToUpper(absl::StrReplaceAll(
                                         choice, {{"-", "_"}}))),
      &state);
  return state;
}

absl::Status List(Session* session, v1::ListJobsRequest request,
                  int64_t limit) {
  if (limit < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--limit ", limit, " is less than 1"));
  }
  v1::ListJobsResponse all;
  while (all.jobs_size() < limit) {
    request.set_page_size(
        static_cast<int32_t>(std::min(kMaxPage, limit - all.jobs_size())));
    v1::ListJobsResponse page;
    Call call(session->connection());
    POT_RETURN_IF_ERROR(call.ToStatus(
        TrainingStub(session)->ListJobs(call.context(), request, &page)));
    all.mutable_jobs()->MergeFrom(page.jobs());
    all.set_next_page_token(page.next_page_token());
    request.set_page_token(page.next_page_token());
    if (page.next_page_token().empty() || page.jobs().empty()) break;
  }
  switch (session->flags().output) {
    case OutputFormat::kJson:
      return WriteJson(session, all);
    case OutputFormat::kJsonLines:
      for (const v1::QatJob& job : all.jobs()) {
        POT_RETURN_IF_ERROR(WriteJson(session, job));
      }
      return absl::OkStatus();
    case OutputFormat::kText:
      break;
  }
  POT_RETURN_IF_ERROR(
      session->console().Write(FormatJobTable(all.jobs(), session->Now())));
  if (!all.next_page_token().empty()) {
    session->console().WriteError("there are older jobs: --limit\n");
  }
  return absl::OkStatus();
}

absl::Status Show(Session* session, const std::string& job_id,
                  bool all_fields) {
  POT_ASSIGN_OR_RETURN(const v1::QatJob job, GetJob(session, job_id));
  if (!session->text_output()) return WriteJson(session, job);
  return session->console().Write(FormatJob(job, all_fields));
}

absl::Status Checkpoints(Session* session, const std::string& job_id) {
  v1::ListCheckpointsRequest request;
  request.set_job_id(job_id);
  v1::ListCheckpointsResponse response;
  Call call(session->connection());
  POT_RETURN_IF_ERROR(call.ToStatus(TrainingStub(session)->ListCheckpoints(
      call.context(), request, &response)));
  switch (session->flags().output) {
    case OutputFormat::kJson:
      return WriteJson(session, response);
    case OutputFormat::kJsonLines:
      for (const v1::JobCheckpoint& checkpoint : response.checkpoints()) {
        POT_RETURN_IF_ERROR(WriteJson(session, checkpoint));
      }
      return absl::OkStatus();
    case OutputFormat::kText:
      break;
  }
  return session->console().Write(
      FormatCheckpointTable(response.checkpoints()));
}

}  // namespace

void AddJobQueryCommands(const Command& jobs, CommandFunction* selected) {
  struct Flags {
    std::string job_id;
    v1::ListJobsRequest list;
    int64_t limit = 100;
    bool all = false;
    int64_t after = 0;
  };
  auto flags = std::make_shared<Flags>();

  const Command list = jobs.AddCommand("list", "Jobs, newest first");
  list.AddListFlag(
          "--state",
          [=](const std::vector<std::string>& choices) {
            flags->list.clear_states();
            for (const std::string& choice : choices) {
              flags->list.add_states(ParseState(choice));
            }
            return absl::OkStatus();
          },
          "Only jobs in this state; repeatable")
      .OneOf(StateChoices());
  AddValueFlag<int64_t>(
      list, "--limit", [=](int64_t v) { flags->limit = v; },
      "At most this many [100]");
  list.OnSelected([=] {
    *selected = [=](Session* session) {
      return List(session, flags->list, flags->limit);
    };
  });

  const Command show =
      jobs.AddCommand("show", "All that is known about one job");
  show.AddFlag("job", &flags->job_id, "Its id").Required();
  show.AddSwitch("--all", &flags->all,
                 "Also the fields of the specification that are as by default");
  show.OnSelected([=] {
    *selected = [=](Session* session) {
      return Show(session, flags->job_id, flags->all);
    };
  });

  const Command watch = jobs.AddCommand(
      "watch", "What happened and happens to a job, until it ends");
  watch.AddFlag("job", &flags->job_id, "Its id").Required();
  AddValueFlag<int64_t>(
      watch, "--after", [=](int64_t v) { flags->after = v; },
      "Only events with greater sequence numbers [0]");
  watch.OnSelected([=] {
    *selected = [=](Session* session) {
      return WatchJob(session, flags->job_id, flags->after);
    };
  });

  const Command checkpoints = jobs.AddCommand(
      "checkpoints", "What a job has made so far, oldest first");
  checkpoints.AddFlag("job", &flags->job_id, "Its id").Required();
  checkpoints.OnSelected([=] {
    *selected = [=](Session* session) {
      return Checkpoints(session, flags->job_id);
    };
  });
}

}  // namespace pot
