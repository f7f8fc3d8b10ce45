#include "server/rpc/trainer_worker_service.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "server/rpc/answer_later.h"
#include "server/rpc/file_fetch.h"
#include "server/rpc/long_call.h"
#include "server/rpc/stream_watch.h"
#include "server/rpc/wire.h"
#include "server/rpc/worker_requests.h"
#include "server/rpc/worker_upload.h"
#include "server/rpc/worker_upload_calls.h"
#include "server/serving/error_details.h"
#include "server/serving/field_errors.h"
#include "server/training/job_inputs.h"

namespace pot {
namespace {

// A call that the pool answers: `check` the request here, `answer` it there.
template <typename Request, typename Response, typename Check, typename Answer>
grpc::ServerUnaryReactor* AnswerUnary(CallTracker* calls, WorkerPool* pool,
                                      absl::string_view method,
                                      grpc::CallbackServerContext* rpc,
                                      const grpc::ByteBuffer& bytes,
                                      grpc::ByteBuffer* response, Check check,
                                      Answer answer) {
  return AnswerLater<Request>(
      calls, pool, method, rpc, bytes, response,
      [&](const Request& request) -> absl::StatusOr<LongWork> {
        POT_RETURN_IF_ERROR(check(request));
        return LongWork(
            [request, answer](const LongCall&, grpc::ByteBuffer* out) {
              Response message;
              const absl::Status answered = answer(request, &message);
              return answered.ok() ? SerializeMessage(message, out) : answered;
            });
      });
}

// A stream of chunks of the file that `find` finds for a parsed request.
template <typename Request, typename Response, typename Find>
grpc::ServerWriteReactor<grpc::ByteBuffer>* Fetch(
    CallTracker* calls, WorkerPool* pool, absl::string_view method,
    const grpc::CallbackServerContext& rpc, const grpc::ByteBuffer& bytes,
    Find find) {
  auto call = std::make_unique<Call>(calls, method, rpc);
  Request request;
  absl::Status status = BeginCall(bytes, &request, call.get());
  if (status.ok()) status = CheckLeaseKey(request.lease(), "lease");
  const int64_t offset = request.offset();
  return StartFileFetch(
      std::move(call), status, pool,
      [request, find]() -> absl::StatusOr<FetchedFile> {
        POT_ASSIGN_OR_RETURN(const InputFile input, find(request));
        return FetchedFile{input.path, input.file.size_bytes()};
      },
      offset,
      [](v1::TransferChunk chunk, grpc::ByteBuffer* out) {
        Response message;
        *message.mutable_chunk() = std::move(chunk);
        return SerializeMessage(message, out);
      });
}

std::shared_ptr<StreamWatch> ReadWatch(CallTracker* calls,
                                       grpc::CallbackServerContext* rpc) {
  return std::make_shared<StreamWatch>(StreamWatch::Direction::kReads, rpc,
                                       calls->read_timeout());
}

absl::StatusOr<InputFile> ByDigest(const std::vector<InputFile>& files,
                                   const std::string& sha256) {
  const InputFile* const file = FindByDigest(files, sha256);
  if (file != nullptr) return *file;
  return WithDetails(
      absl::NotFoundError(absl::StrCat(
          "the lease has no such file with the digest ", Quoted(sha256))),
      {.reason = "SOURCE_NOT_FOUND", .metadata = {{"value", Quoted(sha256)}}});
}

}  // namespace

TrainerWorkerService::TrainerWorkerService(TrainerWorkerServiceOptions options)
    : options_(std::move(options)),
      quick_(options_.quick_threads, options_.max_queued),
      slow_(options_.slow_threads, options_.max_queued),
      job_changes_(options_.store->Watch(
          "", [this](const std::string&) { waiters_.Wake(); })) {}

absl::StatusOr<bool> TrainerWorkerService::TryLease(
    const v1::WorkerInfo& worker, v1::AcquireLeaseResponse* response) {
  POT_ASSIGN_OR_RETURN(const std::optional<QatJobLease> lease,
                       options_.store->AcquireLease(worker));
  if (!lease.has_value()) return false;
  absl::StatusOr<v1::Lease> message =
      DescribeLease(*lease, options_.repository, options_.store);
  if (!message.ok()) {
    // No worker could do it: what it begins with is gone or cannot be read.
    v1::CompleteRequest request;
    *request.mutable_lease() = lease->key;
    request.mutable_failed()->set_message(
        std::string(message.status().message()));
    POT_RETURN_IF_ERROR(options_.store->Complete(request).status());
    return false;
  }
  message->set_ttl_seconds(absl::ToDoubleSeconds(lease->ttl));
  message->set_heartbeat_seconds(absl::ToDoubleSeconds(options_.heartbeat));
  *response->mutable_lease() = *std::move(message);
  return true;
}

TrainerWorkerService::Unary* TrainerWorkerService::AcquireLease(
    Rpc* rpc, const Bytes* request, Bytes* response) {
  auto call = std::make_unique<Call>(options_.calls, "AcquireLease", *rpc);
  absl::Status status = call->EnterWatch();
  v1::AcquireLeaseRequest parsed;
  if (status.ok()) status = ParseMessage(*request, &parsed);
  if (status.ok()) status = CheckAcquireLease(parsed);
  const OpenCall open = StartOpenCall(rpc, std::move(call), response);
  if (!status.ok()) {
    open.call->Finish(status);
    return open.reactor;
  }
  waiters_.Add(
      parsed.worker().name(),
      absl::Now() + absl::Seconds(parsed.wait_seconds()),
      [this, call = open.call,
       worker = parsed.worker()](LeaseWaiters::Turn turn) {
        if (call->finished()) return true;
        v1::AcquireLeaseResponse answer;
        absl::StatusOr<bool> leased = false;
        if (turn != LeaseWaiters::Turn::kReplaced) {
          leased = TryLease(worker, &answer);
        }
        if (leased.ok() && !*leased && turn == LeaseWaiters::Turn::kTry) {
          return false;
        }
        grpc::ByteBuffer bytes;
        absl::Status result = leased.status();
        if (result.ok()) result = SerializeMessage(answer, &bytes);
        call->Finish(result, std::move(bytes));
        return true;
      });
  return open.reactor;
}

absl::Status TrainerWorkerService::AnswerHeartbeat(
    const v1::HeartbeatRequest& request, v1::HeartbeatResponse* response) {
  POT_ASSIGN_OR_RETURN(
      v1::WorkerDirective directive,
      options_.store->Heartbeat(request.lease(), request.progress()));
  if (directive == v1::WORKER_DIRECTIVE_CONTINUE &&
      options_.duty_ratio != nullptr) {
    const double duty_ratio = options_.duty_ratio();
    if (duty_ratio < 1) {
      directive = v1::WORKER_DIRECTIVE_THROTTLE;
      response->set_duty_ratio(duty_ratio);
    }
  }
  response->set_directive(directive);
  if (directive != v1::WORKER_DIRECTIVE_LEASE_LOST) {
    response->set_ttl_seconds(absl::ToDoubleSeconds(options_.lease_ttl));
  }
  return absl::OkStatus();
}

TrainerWorkerService::Unary* TrainerWorkerService::Heartbeat(
    Rpc* rpc, const Bytes* request, Bytes* response) {
  return AnswerUnary<v1::HeartbeatRequest, v1::HeartbeatResponse>(
      options_.calls, &quick_, "Heartbeat", rpc, *request, response,
      &CheckHeartbeat,
      [this](const v1::HeartbeatRequest& parsed,
             v1::HeartbeatResponse* answer) {
        return AnswerHeartbeat(parsed, answer);
      });
}

TrainerWorkerService::Unary* TrainerWorkerService::ReportEvents(
    Rpc* rpc, const Bytes* request, Bytes* response) {
  return AnswerUnary<v1::ReportEventsRequest, v1::ReportEventsResponse>(
      options_.calls, &quick_, "ReportEvents", rpc, *request, response,
      &CheckReportEvents,
      [store = options_.store](
          const v1::ReportEventsRequest& parsed,
          v1::ReportEventsResponse* answer) -> absl::Status {
        const std::vector<v1::WorkerEvent> events(parsed.events().begin(),
                                                  parsed.events().end());
        POT_ASSIGN_OR_RETURN(const int64_t stored,
                             store->AppendWorkerEvents(parsed.lease(), events));
        answer->set_stored_through(stored);
        return absl::OkStatus();
      });
}

TrainerWorkerService::Writes* TrainerWorkerService::FetchDataset(
    Rpc* rpc, const Bytes* request) {
  return Fetch<v1::FetchDatasetRequest, v1::FetchDatasetResponse>(
      options_.calls, &quick_, "FetchDataset", *rpc, *request,
      [this](
          const v1::FetchDatasetRequest& parsed) -> absl::StatusOr<InputFile> {
        POT_ASSIGN_OR_RETURN(const v1::QatJob job,
                             options_.store->CheckLease(parsed.lease()));
        return pot::FindDataset(job.spec(), parsed.sha256(), options_.store,
                                options_.root);
      });
}

TrainerWorkerService::Writes* TrainerWorkerService::FetchBase(
    Rpc* rpc, const Bytes* request) {
  return Fetch<v1::FetchBaseRequest, v1::FetchBaseResponse>(
      options_.calls, &quick_, "FetchBase", *rpc, *request,
      [this](const v1::FetchBaseRequest& parsed) -> absl::StatusOr<InputFile> {
        POT_ASSIGN_OR_RETURN(const v1::QatJob job,
                             options_.store->CheckLease(parsed.lease()));
        POT_ASSIGN_OR_RETURN(const ModelFiles files,
                             FindModelFiles(job.spec(), options_.repository));
        absl::StatusOr<InputFile> file = ByDigest(files.base, parsed.sha256());
        return file.ok() ? file : ByDigest(files.teacher, parsed.sha256());
      });
}

TrainerWorkerService::Writes* TrainerWorkerService::FetchSnapshot(
    Rpc* rpc, const Bytes* request) {
  return Fetch<v1::FetchSnapshotRequest, v1::FetchSnapshotResponse>(
      options_.calls, &quick_, "FetchSnapshot", *rpc, *request,
      [this](
          const v1::FetchSnapshotRequest& parsed) -> absl::StatusOr<InputFile> {
        POT_ASSIGN_OR_RETURN(const std::optional<StoredSnapshot> snapshot,
                             options_.store->LeaseSnapshot(parsed.lease()));
        if (!snapshot.has_value()) return ByDigest({}, parsed.sha256());
        return ByDigest(SnapshotFiles(*snapshot, options_.root),
                        parsed.sha256());
      });
}

TrainerWorkerService::Unary* TrainerWorkerService::GetUpload(
    Rpc* rpc, const Bytes* request, Bytes* response) {
  return AnswerUnary<v1::GetUploadRequest, v1::GetUploadResponse>(
      options_.calls, &quick_, "GetUpload", rpc, *request, response,
      [](const v1::GetUploadRequest& parsed) {
        return CheckLeaseKey(parsed.lease(), "lease");
      },
      [this](const v1::GetUploadRequest& parsed,
             v1::GetUploadResponse* answer) -> absl::Status {
        POT_ASSIGN_OR_RETURN(
            const UploadPosition position,
            options_.acceptor->Find(parsed.lease(), parsed.upload_id()));
        answer->set_file_index(static_cast<uint32_t>(position.file_index));
        answer->set_offset(position.offset);
        answer->set_complete(position.complete);
        return absl::OkStatus();
      });
}

TrainerWorkerService::Reads* TrainerWorkerService::UploadSnapshot(
    Rpc* rpc, Bytes* response) {
  auto call = std::make_unique<Call>(options_.calls, "UploadSnapshot", *rpc);
  const absl::Status status = call->Enter();
  return StartWorkerUpload(
      ReadWatch(options_.calls, rpc), std::move(call), status,
      MakeSnapshotUpload(options_.acceptor, options_.uploads), &quick_, &slow_,
      response);
}

TrainerWorkerService::Reads* TrainerWorkerService::UploadCheckpoint(
    Rpc* rpc, Bytes* response) {
  auto call = std::make_unique<Call>(options_.calls, "UploadCheckpoint", *rpc);
  const absl::Status status = call->Enter();
  return StartWorkerUpload(
      ReadWatch(options_.calls, rpc), std::move(call), status,
      MakeCheckpointUpload(options_.acceptor, options_.uploads), &quick_,
      &slow_, response);
}

TrainerWorkerService::Unary* TrainerWorkerService::Complete(
    Rpc* rpc, const Bytes* request, Bytes* response) {
  return AnswerUnary<v1::CompleteRequest, v1::CompleteResponse>(
      options_.calls, &quick_, "Complete", rpc, *request, response,
      &CheckComplete,
      [store = options_.store](const v1::CompleteRequest& parsed,
                               v1::CompleteResponse* answer) -> absl::Status {
        POT_ASSIGN_OR_RETURN(const v1::QatJobState state,
                             store->Complete(parsed));
        answer->set_state(state);
        return absl::OkStatus();
      });
}

}  // namespace pot
