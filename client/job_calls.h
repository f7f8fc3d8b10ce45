// What several commands about jobs ask the server.
#ifndef POT_CLIENT_JOB_CALLS_H_
#define POT_CLIENT_JOB_CALLS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/session.h"
#include "pot/v1/qat_job.pb.h"
#include "pot/v1/training.grpc.pb.h"

namespace pot {

std::unique_ptr<v1::TrainingService::Stub> TrainingStub(Session* session);

absl::StatusOr<v1::QatJob> GetJob(Session* session, const std::string& job_id);

// Nothing happens to the job any more.
bool IsFinal(v1::QatJobState state);

struct JobEventHandler {
  // Each event once, in order. An error ends the watching.
  std::function<absl::Status(const v1::WatchJobResponse&)> on_event;
  // The connection broke and is tried again; once until the next event.
  std::function<void(const absl::Status& why)> on_lost;
};

// Passes the events after `after_sequence` to `handler` until the job is final,
// and returns the job as it then is. When the server goes away after it has
// answered once, watching resumes after the last event, for up to ten minutes.
// CANCELLED after an interrupt; --timeout is for the whole of it.
absl::StatusOr<v1::QatJob> FollowJob(Session* session,
                                     const std::string& job_id,
                                     int64_t after_sequence,
                                     const JobEventHandler& handler);

// The command line that watches the job, for people to repeat.
std::string WatchCommand(Session* session, absl::string_view job_id);

}  // namespace pot

#endif  // POT_CLIENT_JOB_CALLS_H_
