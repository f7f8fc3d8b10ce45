#include "server/rpc/training_service.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "server/rpc/answer_later.h"
#include "server/rpc/caller.h"
#include "server/rpc/submit_qat.h"
#include "server/rpc/upload_dataset.h"
#include "server/rpc/watch_job.h"
#include "server/serving/error_details.h"
#include "server/serving/field_errors.h"
#include "server/training/job_files.h"

namespace pot {
namespace {

constexpr int64_t kMaxCommentBytes = 512;
constexpr int kDefaultPageSize = 100;
constexpr int kMaxPageSize = 1000;

absl::Status CheckListJobs(const v1::ListJobsRequest& request) {
  for (int i = 0; i < request.states_size(); ++i) {
    const int state = static_cast<int>(request.states(i));
    if (v1::QatJobState_IsValid(state) &&
        state != v1::QAT_JOB_STATE_UNSPECIFIED) {
      continue;
    }
    return FieldError("INVALID_FIELD", absl::StrCat("states[", i, "]"),
                      absl::StrCat("is no state: ", state), "",
                      absl::StrCat(state));
  }
  return CheckRange("page_size", request.page_size(), 0, kMaxPageSize);
}

// A job as the answer.
template <typename Response>
absl::Status JobAnswer(absl::StatusOr<v1::QatJob> job,
                       grpc::ByteBuffer* answer) {
  POT_RETURN_IF_ERROR(job.status());
  Response response;
  *response.mutable_job() = *std::move(job);
  return SerializeMessage(response, answer);
}

// Whether a checkpoint may be published without force.
absl::Status CheckGate(const v1::QatJob& job,
                       const v1::JobCheckpoint& checkpoint) {
  std::string why;
  if (checkpoint.has_gate()) {
    if (checkpoint.gate().passed()) return absl::OkStatus();
    why = "it did not pass the gate";
    for (const std::string& violation : checkpoint.gate().violations()) {
      absl::StrAppend(&why, "; ", violation);
    }
  } else if (job.spec().has_gate()) {
    why = "it was not held against the gate";
  } else if (!std::isfinite(checkpoint.evaluation().perplexity())) {
    why = "its perplexity is not finite";
  } else {
    return absl::OkStatus();
  }
  return WithDetails(absl::FailedPreconditionError(absl::StrCat(
                         "checkpoint ", Quoted(checkpoint.checkpoint_id()),
                         " is not published: ", why)),
                     {.reason = "GATE_NOT_PASSED"});
}

}  // namespace

TrainingService::TrainingService(TrainingServiceOptions options)
    : options_(std::move(options)),
      quick_(options_.quick_threads, options_.max_queued),
      slow_(options_.slow_threads, options_.max_queued) {}

std::string TrainingService::Actor(const Rpc& rpc) const {
  return options_.actor == nullptr ? std::string() : options_.actor(rpc);
}

grpc::ServerReadReactor<grpc::ByteBuffer>* TrainingService::UploadDataset(
    Rpc* rpc, Bytes* response) {
  auto call = std::make_unique<Call>(options_.calls, "UploadDataset", *rpc);
  const absl::Status status = call->Enter();
  return StartUploadDataset(rpc, std::move(call), status, options_.datasets,
                            &quick_, options_.calls->read_timeout(), response);
}

TrainingService::Unary* TrainingService::SubmitQat(Rpc* rpc,
                                                   const Bytes* request,
                                                   Bytes* response) {
  return AnswerLater<v1::SubmitQatRequest>(
      options_.calls, &slow_, "SubmitQat", rpc, *request, response,
      [this,
       rpc](const v1::SubmitQatRequest& parsed) -> absl::StatusOr<LongWork> {
        POT_ASSIGN_OR_RETURN(ParsedSubmission submission,
                             ParseSubmission(parsed));
        return LongWork(
            [this, submission = std::move(submission), submitter = Actor(*rpc)](
                const LongCall&, Bytes* answer) -> absl::Status {
              POT_ASSIGN_OR_RETURN(
                  const v1::SubmitQatResponse submitted,
                  SubmitQatJob(submission, submitter, options_.repository,
                               options_.datasets, options_.jobs));
              return SerializeMessage(submitted, answer);
            });
      });
}

TrainingService::Unary* TrainingService::GetJob(Rpc* rpc, const Bytes* request,
                                                Bytes* response) {
  return AnswerLater<v1::GetJobRequest>(
      options_.calls, &quick_, "GetJob", rpc, *request, response,
      [this](const v1::GetJobRequest& parsed) -> absl::StatusOr<LongWork> {
        return LongWork([this, parsed](const LongCall&, Bytes* answer) {
          return JobAnswer<v1::GetJobResponse>(
              options_.jobs->Get(parsed.job_id()), answer);
        });
      });
}

TrainingService::Unary* TrainingService::ListJobs(Rpc* rpc,
                                                  const Bytes* request,
                                                  Bytes* response) {
  return AnswerLater<v1::ListJobsRequest>(
      options_.calls, &quick_, "ListJobs", rpc, *request, response,
      [this](const v1::ListJobsRequest& parsed) -> absl::StatusOr<LongWork> {
        POT_RETURN_IF_ERROR(CheckListJobs(parsed));
        return LongWork(
            [this, parsed](const LongCall&, Bytes* answer) -> absl::Status {
              std::vector<v1::QatJobState> states;
              for (const int state : parsed.states()) {
                states.push_back(static_cast<v1::QatJobState>(state));
              }
              const int size = parsed.page_size() == 0 ? kDefaultPageSize
                                                       : parsed.page_size();
              POT_ASSIGN_OR_RETURN(
                  QatJobPage page,
                  options_.jobs->List(states, size, parsed.page_token()));
              v1::ListJobsResponse message;
              for (v1::QatJob& job : page.jobs)
                *message.add_jobs() = std::move(job);
              message.set_next_page_token(page.next_page_token);
              return SerializeMessage(message, answer);
            });
      });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* TrainingService::WatchJob(
    Rpc* rpc, const Bytes* request) {
  auto call = std::make_unique<Call>(options_.calls, "WatchJob", *rpc);
  absl::Status status = call->EnterWatch();
  v1::WatchJobRequest parsed;
  if (status.ok()) status = ParseMessage(*request, &parsed);
  if (status.ok()) {
    status = CheckRange("after_sequence", parsed.after_sequence(), 0,
                        std::numeric_limits<int64_t>::max());
  }
  return StartWatchJob(std::move(call), status, options_.jobs, &quick_,
                       parsed.job_id(), parsed.after_sequence());
}

TrainingService::Unary* TrainingService::CancelJob(Rpc* rpc,
                                                   const Bytes* request,
                                                   Bytes* response) {
  return AnswerLater<v1::CancelJobRequest>(
      options_.calls, &quick_, "CancelJob", rpc, *request, response,
      [this,
       rpc](const v1::CancelJobRequest& parsed) -> absl::StatusOr<LongWork> {
        POT_RETURN_IF_ERROR(
            CheckBytes("comment", parsed.comment(), 0, kMaxCommentBytes));
        return LongWork([this, parsed, actor = Actor(*rpc)](const LongCall&,
                                                            Bytes* answer) {
          return JobAnswer<v1::CancelJobResponse>(
              options_.jobs->Cancel(parsed.job_id(), actor, parsed.comment()),
              answer);
        });
      });
}

TrainingService::Unary* TrainingService::PauseJob(Rpc* rpc,
                                                  const Bytes* request,
                                                  Bytes* response) {
  return AnswerLater<v1::PauseJobRequest>(
      options_.calls, &quick_, "PauseJob", rpc, *request, response,
      [this,
       rpc](const v1::PauseJobRequest& parsed) -> absl::StatusOr<LongWork> {
        return LongWork([this, parsed, actor = Actor(*rpc)](const LongCall&,
                                                            Bytes* answer) {
          return JobAnswer<v1::PauseJobResponse>(
              options_.jobs->Pause(parsed.job_id(), actor), answer);
        });
      });
}

TrainingService::Unary* TrainingService::ResumeJob(Rpc* rpc,
                                                   const Bytes* request,
                                                   Bytes* response) {
  return AnswerLater<v1::ResumeJobRequest>(
      options_.calls, &quick_, "ResumeJob", rpc, *request, response,
      [this,
       rpc](const v1::ResumeJobRequest& parsed) -> absl::StatusOr<LongWork> {
        return LongWork([this, parsed, actor = Actor(*rpc)](const LongCall&,
                                                            Bytes* answer) {
          return JobAnswer<v1::ResumeJobResponse>(
              options_.jobs->Resume(parsed.job_id(), actor), answer);
        });
      });
}

TrainingService::Unary* TrainingService::StopEarlyAndPublish(
    Rpc* rpc, const Bytes* request, Bytes* response) {
  return AnswerLater<v1::StopEarlyAndPublishRequest>(
      options_.calls, &quick_, "StopEarlyAndPublish", rpc, *request, response,
      [this, rpc](const v1::StopEarlyAndPublishRequest& parsed)
          -> absl::StatusOr<LongWork> {
        return LongWork([this, parsed, actor = Actor(*rpc)](const LongCall&,
                                                            Bytes* answer) {
          return JobAnswer<v1::StopEarlyAndPublishResponse>(
              options_.jobs->StopEarly(parsed.job_id(), actor), answer);
        });
      });
}

TrainingService::Unary* TrainingService::ListCheckpoints(Rpc* rpc,
                                                         const Bytes* request,
                                                         Bytes* response) {
  return AnswerLater<v1::ListCheckpointsRequest>(
      options_.calls, &quick_, "ListCheckpoints", rpc, *request, response,
      [this](const v1::ListCheckpointsRequest& parsed)
          -> absl::StatusOr<LongWork> {
        return LongWork([this, parsed](const LongCall&,
                                       Bytes* answer) -> absl::Status {
          POT_ASSIGN_OR_RETURN(std::vector<StoredCheckpoint> checkpoints,
                               options_.jobs->ListCheckpoints(parsed.job_id()));
          v1::ListCheckpointsResponse message;
          for (StoredCheckpoint& stored : checkpoints) {
            *message.add_checkpoints() = std::move(stored.checkpoint);
          }
          return SerializeMessage(message, answer);
        });
      });
}

absl::StatusOr<v1::ModelIdentity> TrainingService::Publish(
    const v1::PublishCheckpointRequest& request, const std::string& actor) {
  POT_ASSIGN_OR_RETURN(const v1::QatJob job,
                       options_.jobs->Get(request.job_id()));
  POT_ASSIGN_OR_RETURN(
      const StoredCheckpoint stored,
      options_.jobs->GetCheckpoint(request.job_id(), request.checkpoint_id()));
  if (!request.force()) {
    POT_RETURN_IF_ERROR(CheckGate(job, stored.checkpoint));
  }
  const v1::PublishPolicy& policy = job.spec().publish();
  PublishOrder order;
  order.job_id = job.job_id();
  order.checkpoint_directory = JobDirectory(options_.root, stored.directory);
  order.model = policy.name();
  order.alias = policy.keep_alias() ? "" : policy.alias();
  order.actor = actor;
  order.comment = request.comment();
  POT_ASSIGN_OR_RETURN(const Publication publication,
                       options_.publisher->Publish(order));
  v1::ModelIdentity identity;
  identity.set_name(publication.identity.name);
  identity.set_version(publication.identity.version);
  identity.set_sha256(publication.identity.sha256);
  identity.set_engine(options_.engine);
  POT_RETURN_IF_ERROR(options_.jobs->MarkPublished(
      job.job_id(), stored.checkpoint.checkpoint_id(), identity));
  return identity;
}

TrainingService::Unary* TrainingService::PublishCheckpoint(Rpc* rpc,
                                                           const Bytes* request,
                                                           Bytes* response) {
  return AnswerLater<v1::PublishCheckpointRequest>(
      options_.calls, &slow_, "PublishCheckpoint", rpc, *request, response,
      [this, rpc](const v1::PublishCheckpointRequest& parsed)
          -> absl::StatusOr<LongWork> {
        POT_RETURN_IF_ERROR(
            CheckBytes("comment", parsed.comment(), 0, kMaxCommentBytes));
        if (parsed.force()) {
          POT_RETURN_IF_ERROR(CheckCallerScopes(options_.calls->access(), *rpc,
                                                ScopesOf(Scope::kAdmin)));
        }
        return LongWork([this, parsed, actor = Actor(*rpc)](
                            const LongCall&, Bytes* answer) -> absl::Status {
          v1::PublishCheckpointResponse message;
          POT_ASSIGN_OR_RETURN(*message.mutable_published(),
                               Publish(parsed, actor));
          return SerializeMessage(message, answer);
        });
      });
}

TrainingService::Unary* TrainingService::DeleteJob(Rpc* rpc,
                                                   const Bytes* request,
                                                   Bytes* response) {
  return AnswerLater<v1::DeleteJobRequest>(
      options_.calls, &quick_, "DeleteJob", rpc, *request, response,
      [this](const v1::DeleteJobRequest& parsed) -> absl::StatusOr<LongWork> {
        return LongWork(
            [this, parsed](const LongCall&, Bytes* answer) -> absl::Status {
              POT_RETURN_IF_ERROR(options_.jobs->Delete(parsed.job_id()));
              return SerializeMessage(v1::DeleteJobResponse(), answer);
            });
      });
}

}  // namespace pot
