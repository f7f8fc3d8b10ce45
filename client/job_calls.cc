#include "client/job_calls.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/text_format.h"
#include "engine/base/status_macros.h"
#include "grpcpp/grpcpp.h"

namespace pot {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(200);
constexpr absl::Duration kMaxBackoff = absl::Seconds(5);
constexpr absl::Duration kGiveUpAfter = absl::Minutes(10);

// A server that stops cancels its streams.
bool IsLost(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsCancelled(status);
}

class Follower {
 public:
  Follower(Session* session, const std::string& job_id, int64_t sequence,
           const JobEventHandler& handler)
      : session_(session),
        job_id_(job_id),
        sequence_(sequence),
        handler_(handler),
        deadline_(absl::Now() + session->connection().timeout()) {}

  absl::StatusOr<v1::QatJob> Run() {
    for (;;) {
      absl::Status status = Stream();
      if (status.ok()) status = FetchUnlessFinal();
      if (session_->interrupter().interrupted()) {
        return absl::CancelledError("interrupted");
      }
      if (status.ok() && IsFinal(job_.state())) return job_;
      if (!handler_status_.ok()) return handler_status_;
      if (status.ok()) {
        status = absl::UnavailableError("the server ended the stream");
      }
      if (!answered_ || !IsLost(status)) return status;
      const absl::Time now = absl::Now();
      if (!lost_) {
        lost_ = true;
        lost_since_ = now;
        handler_.on_lost(status);
      }
      if (now - lost_since_ > kGiveUpAfter) return status;
      if (now + backoff_ > deadline_) {
        return absl::DeadlineExceededError(
            absl::StrCat("--timeout is over; before, ", status.message()));
      }
      if (!session_->interrupter().Sleep(backoff_)) {
        return absl::CancelledError("interrupted");
      }
      backoff_ = std::min(2 * backoff_, kMaxBackoff);
    }
  }

 private:
  absl::Status Stream() {
    v1::WatchJobRequest request;
    request.set_job_id(job_id_);
    request.set_after_sequence(sequence_);
    Call call(session_->connection(), deadline_ - absl::Now());
    const auto stub = TrainingStub(session_);
    const auto reader = stub->WatchJob(call.context(), request);
    v1::WatchJobResponse response;
    while (reader->Read(&response)) {
      answered_ = true;
      lost_ = false;
      backoff_ = kFirstBackoff;
      if (response.has_job()) job_ = response.job();
      if (response.event().sequence() <= sequence_) continue;
      sequence_ = response.event().sequence();
      handler_status_ = handler_.on_event(response);
      if (!handler_status_.ok()) {
        call.context()->TryCancel();
        (void)reader->Finish();
        return handler_status_;
      }
    }
    return call.ToStatus(reader->Finish());
  }

  // A stream that ends has not always said how the job is.
  absl::Status FetchUnlessFinal() {
    if (IsFinal(job_.state())) return absl::OkStatus();
    POT_ASSIGN_OR_RETURN(job_, GetJob(session_, job_id_));
    answered_ = true;
    return absl::OkStatus();
  }

  Session* const session_;
  const std::string job_id_;
  int64_t sequence_;
  const JobEventHandler& handler_;
  const absl::Time deadline_;
  v1::QatJob job_;
  absl::Status handler_status_;
  bool answered_ = false;
  bool lost_ = false;
  absl::Time lost_since_;
  absl::Duration backoff_ = kFirstBackoff;
};

}  // namespace

std::unique_ptr<v1::TrainingService::Stub> TrainingStub(Session* session) {
  return v1::TrainingService::NewStub(session->connection().channel());
}

absl::StatusOr<v1::QatJob> GetJob(Session* session, const std::string& job_id) {
  v1::GetJobRequest request;
  request.set_job_id(job_id);
  v1::GetJobResponse response;
  Call call(session->connection());
  POT_RETURN_IF_ERROR(call.ToStatus(
      TrainingStub(session)->GetJob(call.context(), request, &response)));
  return response.job();
}

bool IsFinal(v1::QatJobState state) {
  switch (state) {
    case v1::QAT_JOB_STATE_SUCCEEDED:
    case v1::QAT_JOB_STATE_GATE_REJECTED:
    case v1::QAT_JOB_STATE_FAILED:
    case v1::QAT_JOB_STATE_CANCELLED:
      return true;
    default:
      return false;
  }
}

absl::StatusOr<v1::QatJob> FollowJob(Session* session,
                                     const std::string& job_id,
                                     int64_t after_sequence,
                                     const JobEventHandler& handler) {
  return Follower(session, job_id, after_sequence, handler).Run();
}

std::string WatchCommand(Session* session, absl::string_view job_id) {
  const std::string& server = session->flags().server;
  return absl::StrCat("pot-client ",
                      server == CommonFlags().server
                          ? ""
                          : absl::StrCat("--server ", Printable(server), " "),
                      "jobs watch ", Printable(job_id));
}

}  // namespace pot
