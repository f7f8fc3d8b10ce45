#include "server/rpc/trainer_worker_service.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "server/rpc/file_fetch.h"
#include "server/rpc/long_call.h"
#include "server/rpc/wire.h"
#include "server/rpc/worker_upload.h"
#include "server/serving/error_details.h"
#include "server/serving/field_errors.h"
#include "server/training/job_inputs.h"

namespace pot {
namespace {

constexpr double kMaxWaitSeconds = 60;
constexpr int64_t kMaxNameBytes = 128;
constexpr int64_t kMaxFeatures = 64;
constexpr int64_t kMaxEvents = 256;
constexpr int64_t kMaxTextBytes = 4096;

absl::Status CheckSize(absl::string_view field, absl::string_view text,
                       int64_t low, int64_t high) {
  const auto size = static_cast<int64_t>(text.size());
  if (size >= low && size <= high) return absl::OkStatus();
  return FieldError(
      "INVALID_FIELD", field,
      absl::StrCat("must have ", low, " to ", high, " bytes; it has ", size),
      absl::StrCat(high), absl::StrCat(size));
}

absl::Status CheckKey(const v1::LeaseKey& key, const std::string& field) {
  POT_RETURN_IF_ERROR(
      CheckSize(field + ".job_id", key.job_id(), 1, kMaxNameBytes));
  if (key.epoch() < 1) {
    return RangeError(field + ".epoch", "[1, 9223372036854775807]",
                      absl::StrCat(key.epoch()));
  }
  return absl::OkStatus();
}

absl::Status CheckWorker(const v1::WorkerInfo& worker) {
  POT_RETURN_IF_ERROR(
      CheckSize("worker.name", worker.name(), 1, kMaxNameBytes));
  if (!std::all_of(
          worker.name().begin(), worker.name().end(), [](unsigned char c) {
            return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
          })) {
    return FieldError("INVALID_FIELD", "worker.name",
                      absl::StrCat("must be of [A-Za-z0-9._-]; it is ",
                                   Quoted(worker.name())),
                      "", Quoted(worker.name()));
  }
  POT_RETURN_IF_ERROR(
      CheckSize("worker.version", worker.version(), 0, kMaxNameBytes));
  POT_RETURN_IF_ERROR(CheckEntries("worker.cpu_features",
                                   worker.cpu_features_size(), kMaxFeatures));
  for (const std::string& feature : worker.cpu_features()) {
    POT_RETURN_IF_ERROR(
        CheckSize("worker.cpu_features", feature, 0, kMaxNameBytes));
  }
  if (worker.memory_bytes() < 0) {
    return RangeError("worker.memory_bytes", "[0, 9223372036854775807]",
                      absl::StrCat(worker.memory_bytes()));
  }
  return absl::OkStatus();
}

absl::Status CheckAcquire(const v1::AcquireLeaseRequest& request) {
  const double wait = request.wait_seconds();
  if (!(wait >= 0 && wait <= kMaxWaitSeconds)) {
    return RangeError("wait_seconds",
                      absl::StrCat("[0, ", kMaxWaitSeconds, "]"),
                      absl::StrCat(wait));
  }
  return CheckWorker(request.worker());
}

absl::Status CheckProgress(const v1::JobProgress& progress,
                           const std::string& field) {
  const std::pair<const char*, int64_t> counts[] = {
      {".step", progress.step()},
      {".total_steps", progress.total_steps()},
      {".tokens", progress.tokens()}};
  for (const auto& [name, count] : counts) {
    if (count < 0) {
      return RangeError(field + name, "[0, 9223372036854775807]",
                        absl::StrCat(count));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckEvents(const v1::ReportEventsRequest& request) {
  POT_RETURN_IF_ERROR(CheckKey(request.lease(), "lease"));
  POT_RETURN_IF_ERROR(
      CheckEntries("events", request.events_size(), kMaxEvents));
  for (int i = 0; i < request.events_size(); ++i) {
    const v1::WorkerEvent& event = request.events(i);
    const std::string field = absl::StrCat("events[", i, "]");
    if (event.worker_sequence() < 1) {
      return RangeError(field + ".worker_sequence", "[1, 9223372036854775807]",
                        absl::StrCat(event.worker_sequence()));
    }
    switch (event.detail_case()) {
      case v1::WorkerEvent::kProgress:
        POT_RETURN_IF_ERROR(
            CheckProgress(event.progress(), field + ".progress"));
        break;
      case v1::WorkerEvent::kLog:
        POT_RETURN_IF_ERROR(CheckSize(field + ".log.text", event.log().text(),
                                      0, kMaxTextBytes));
        break;
      case v1::WorkerEvent::kEvaluation:
        break;
      case v1::WorkerEvent::DETAIL_NOT_SET:
        return FieldError("MISSING_FIELD", field + ".detail", "is missing", "",
                          "");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckComplete(const v1::CompleteRequest& request) {
  POT_RETURN_IF_ERROR(CheckKey(request.lease(), "lease"));
  switch (request.outcome_case()) {
    case v1::CompleteRequest::kTrained:
      return CheckSize("trained.checkpoint_id",
                       request.trained().checkpoint_id(), 1, kMaxNameBytes);
    case v1::CompleteRequest::kFailed:
      return CheckSize("failed.message", request.failed().message(), 0,
                       kMaxTextBytes);
    case v1::CompleteRequest::OUTCOME_NOT_SET:
      return FieldError("MISSING_FIELD", "outcome", "is missing", "", "");
    default:
      return absl::OkStatus();
  }
}

template <typename Request>
absl::Status Begin(const grpc::ByteBuffer& bytes, Request* request,
                   Call* call) {
  POT_RETURN_IF_ERROR(call->Enter());
  return ParseMessage(bytes, request);
}

// A call that the pool answers: `check` the request here, `answer` it there.
template <typename Request, typename Response, typename Check, typename Answer>
grpc::ServerUnaryReactor* AnswerLater(CallTracker* calls, WorkerPool* pool,
                                      absl::string_view method,
                                      grpc::CallbackServerContext* rpc,
                                      const grpc::ByteBuffer& bytes,
                                      grpc::ByteBuffer* response, Check check,
                                      Answer answer) {
  auto call = std::make_unique<Call>(calls, method);
  Request request;
  absl::Status status = Begin(bytes, &request, call.get());
  if (status.ok()) status = check(request);
  return StartLongCall(
      rpc, std::move(call), status, pool,
      [request, answer](const LongCall&, grpc::ByteBuffer* out) {
        Response message;
        const absl::Status answered = answer(request, &message);
        return answered.ok() ? SerializeMessage(message, out) : answered;
      },
      response);
}

// A stream of chunks of the file that `find` finds for a parsed request.
template <typename Request, typename Response, typename Find>
grpc::ServerWriteReactor<grpc::ByteBuffer>* Fetch(CallTracker* calls,
                                                  WorkerPool* pool,
                                                  absl::string_view method,
                                                  const grpc::ByteBuffer& bytes,
                                                  Find find) {
  auto call = std::make_unique<Call>(calls, method);
  Request request;
  absl::Status status = Begin(bytes, &request, call.get());
  if (status.ok()) status = CheckKey(request.lease(), "lease");
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

absl::StatusOr<InputFile> ByDigest(const std::vector<InputFile>& files,
                                   const std::string& sha256) {
  const InputFile* const file = FindByDigest(files, sha256);
  if (file != nullptr) return *file;
  return WithDetails(
      absl::NotFoundError(absl::StrCat(
          "the lease has no such file with the digest ", Quoted(sha256))),
      {.reason = "SOURCE_NOT_FOUND", .metadata = {{"value", Quoted(sha256)}}});
}

// Both kinds of uploads: Request is the stream's message and Response its
// answer.
template <typename Request, typename Response>
class WorkersUpload : public UploadProtocol {
 public:
  WorkersUpload(UploadAcceptor* acceptor, UploadStore* uploads)
      : acceptor_(acceptor), uploads_(uploads) {}

  absl::StatusOr<Part> Parse(const grpc::ByteBuffer& bytes,
                             v1::TransferChunk* chunk) override {
    Request message;
    POT_RETURN_IF_ERROR(ParseMessage(bytes, &message));
    switch (message.part_case()) {
      case Request::kHeader:
        POT_RETURN_IF_ERROR(TakeHeader(message));
        return Part::kHeader;
      case Request::kChunk:
        *chunk = std::move(*message.mutable_chunk());
        return Part::kChunk;
      case Request::PART_NOT_SET:
        break;
    }
    return FieldError("MISSING_FIELD", "part", "is missing: header or chunk",
                      "", "");
  }

 protected:
  virtual absl::Status TakeHeader(const Request& message) = 0;

  UploadAcceptor* acceptor() const { return acceptor_; }
  UploadStore* uploads() const { return uploads_; }

 private:
  UploadAcceptor* const acceptor_;
  UploadStore* const uploads_;
};

class SnapshotUpload final : public WorkersUpload<v1::UploadSnapshotRequest,
                                                  v1::UploadSnapshotResponse> {
 public:
  using WorkersUpload::WorkersUpload;

  absl::StatusOr<std::unique_ptr<Upload>> Open(
      grpc::ByteBuffer* answer) override {
    POT_ASSIGN_OR_RETURN(const std::optional<v1::Snapshot> known,
                         acceptor()->FindSnapshot(header_));
    if (!known.has_value()) {
      return uploads()->Open(UploadKind::kSnapshot, header_);
    }
    POT_RETURN_IF_ERROR(Answer(*known, answer));
    return nullptr;
  }
  absl::Status Accept(Upload* upload, grpc::ByteBuffer* answer) override {
    POT_ASSIGN_OR_RETURN(const v1::Snapshot snapshot,
                         acceptor()->AcceptSnapshot(upload));
    return Answer(snapshot, answer);
  }

 private:
  absl::Status TakeHeader(const v1::UploadSnapshotRequest& message) override {
    header_ = message.header();
    return CheckKey(header_.lease(), "header.lease");
  }
  static absl::Status Answer(const v1::Snapshot& snapshot,
                             grpc::ByteBuffer* answer) {
    v1::UploadSnapshotResponse response;
    *response.mutable_snapshot() = snapshot;
    return SerializeMessage(response, answer);
  }

  v1::UploadHeader header_;
};

class CheckpointUploadCall final
    : public WorkersUpload<v1::UploadCheckpointRequest,
                           v1::UploadCheckpointResponse> {
 public:
  using WorkersUpload::WorkersUpload;

  absl::StatusOr<std::unique_ptr<Upload>> Open(
      grpc::ByteBuffer* answer) override {
    POT_ASSIGN_OR_RETURN(const std::optional<v1::JobCheckpoint> known,
                         acceptor()->FindCheckpoint(header_.upload()));
    if (!known.has_value()) {
      return uploads()->Open(UploadKind::kCheckpoint, header_.upload());
    }
    POT_RETURN_IF_ERROR(Answer(*known, answer));
    return nullptr;
  }
  absl::Status Accept(Upload* upload, grpc::ByteBuffer* answer) override {
    POT_ASSIGN_OR_RETURN(
        const v1::JobCheckpoint checkpoint,
        acceptor()->AcceptCheckpoint(upload, header_.evaluation()));
    return Answer(checkpoint, answer);
  }

 private:
  absl::Status TakeHeader(const v1::UploadCheckpointRequest& message) override {
    header_ = message.header();
    return CheckKey(header_.upload().lease(), "header.upload.lease");
  }
  static absl::Status Answer(const v1::JobCheckpoint& checkpoint,
                             grpc::ByteBuffer* answer) {
    v1::UploadCheckpointResponse response;
    *response.mutable_checkpoint() = checkpoint;
    return SerializeMessage(response, answer);
  }

  v1::CheckpointUploadHeader header_;
};

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
  auto call = std::make_unique<Call>(options_.calls, "AcquireLease");
  // Waiting does not hold up a server that drains: it is counted only here.
  absl::Status status = options_.calls->Enter();
  if (status.ok()) options_.calls->Leave();
  v1::AcquireLeaseRequest parsed;
  if (status.ok()) status = ParseMessage(*request, &parsed);
  if (status.ok()) status = CheckAcquire(parsed);
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
  return AnswerLater<v1::HeartbeatRequest, v1::HeartbeatResponse>(
      options_.calls, &quick_, "Heartbeat", rpc, *request, response,
      [](const v1::HeartbeatRequest& parsed) -> absl::Status {
        POT_RETURN_IF_ERROR(CheckKey(parsed.lease(), "lease"));
        return CheckProgress(parsed.progress(), "progress");
      },
      [this](const v1::HeartbeatRequest& parsed,
             v1::HeartbeatResponse* answer) {
        return AnswerHeartbeat(parsed, answer);
      });
}

TrainerWorkerService::Unary* TrainerWorkerService::ReportEvents(
    Rpc* rpc, const Bytes* request, Bytes* response) {
  return AnswerLater<v1::ReportEventsRequest, v1::ReportEventsResponse>(
      options_.calls, &quick_, "ReportEvents", rpc, *request, response,
      &CheckEvents,
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
    Rpc*, const Bytes* request) {
  return Fetch<v1::FetchDatasetRequest, v1::FetchDatasetResponse>(
      options_.calls, &quick_, "FetchDataset", *request,
      [this](
          const v1::FetchDatasetRequest& parsed) -> absl::StatusOr<InputFile> {
        POT_ASSIGN_OR_RETURN(const v1::QatJob job,
                             options_.store->CheckLease(parsed.lease()));
        return pot::FindDataset(job.spec(), parsed.sha256(), options_.store,
                                options_.root);
      });
}

TrainerWorkerService::Writes* TrainerWorkerService::FetchBase(
    Rpc*, const Bytes* request) {
  return Fetch<v1::FetchBaseRequest, v1::FetchBaseResponse>(
      options_.calls, &quick_, "FetchBase", *request,
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
    Rpc*, const Bytes* request) {
  return Fetch<v1::FetchSnapshotRequest, v1::FetchSnapshotResponse>(
      options_.calls, &quick_, "FetchSnapshot", *request,
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
  return AnswerLater<v1::GetUploadRequest, v1::GetUploadResponse>(
      options_.calls, &quick_, "GetUpload", rpc, *request, response,
      [](const v1::GetUploadRequest& parsed) {
        return CheckKey(parsed.lease(), "lease");
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
    Rpc*, Bytes* response) {
  auto call = std::make_unique<Call>(options_.calls, "UploadSnapshot");
  const absl::Status status = call->Enter();
  return StartWorkerUpload(
      std::move(call), status,
      std::make_unique<SnapshotUpload>(options_.acceptor, options_.uploads),
      &quick_, &slow_, response);
}

TrainerWorkerService::Reads* TrainerWorkerService::UploadCheckpoint(
    Rpc*, Bytes* response) {
  auto call = std::make_unique<Call>(options_.calls, "UploadCheckpoint");
  const absl::Status status = call->Enter();
  return StartWorkerUpload(std::move(call), status,
                           std::make_unique<CheckpointUploadCall>(
                               options_.acceptor, options_.uploads),
                           &quick_, &slow_, response);
}

TrainerWorkerService::Unary* TrainerWorkerService::Complete(
    Rpc* rpc, const Bytes* request, Bytes* response) {
  return AnswerLater<v1::CompleteRequest, v1::CompleteResponse>(
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
