// All of the trainer that knows gRPC.
#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/server_address.h"
#include "engine/base/mutex.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/worker.grpc.pb.h"
#include "trainer/worker/worker_service.h"

namespace pot {
namespace {

// A server that is just starting should be noticed within seconds.
constexpr int kFirstReconnectMs = 100;
constexpr int kLongestReconnectMs = 2000;
// gRPC servers drop clients that ping more often than every five minutes.
constexpr int kKeepaliveMs = 6 * 60 * 1000;
// Of calls that answer at once.
constexpr std::chrono::seconds kCallDeadline(15);

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& server,
                                           const ChannelSecurity& security) {
  grpc::ChannelArguments arguments;
  // The worker knows what may be repeated, and how long to wait.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kFirstReconnectMs);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kLongestReconnectMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kLongestReconnectMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  // $http_proxy is not meant for this machine.
  if (IsLocalServer(server)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return CreateSecureChannel(server, security, arguments);
}

class GrpcWorkerService final : public WorkerService {
 public:
  GrpcWorkerService(const std::string& server, const ChannelSecurity& security)
      : server_(server),
        stub_(
            v1::TrainerWorkerService::NewStub(MakeChannel(server, security))) {}

  absl::StatusOr<v1::AcquireLeaseResponse> AcquireLease(
      const v1::AcquireLeaseRequest& request) override {
    const auto wait = std::chrono::milliseconds(
        static_cast<int64_t>(1000 * request.wait_seconds()));
    Context context(this, &acquiring_, wait + kCallDeadline);
    v1::AcquireLeaseResponse response;
    return Answer(stub_->AcquireLease(context.get(), request, &response),
                  std::move(response));
  }

  absl::StatusOr<v1::HeartbeatResponse> Heartbeat(
      const v1::HeartbeatRequest& request) override {
    Context context(this, nullptr, kCallDeadline);
    v1::HeartbeatResponse response;
    return Answer(stub_->Heartbeat(context.get(), request, &response),
                  std::move(response));
  }

  absl::StatusOr<v1::ReportEventsResponse> ReportEvents(
      const v1::ReportEventsRequest& request) override {
    Context context(this, nullptr, kCallDeadline);
    v1::ReportEventsResponse response;
    return Answer(stub_->ReportEvents(context.get(), request, &response),
                  std::move(response));
  }

  absl::StatusOr<v1::GetUploadResponse> GetUpload(
      const v1::GetUploadRequest& request) override {
    Context context(this, nullptr, kCallDeadline);
    v1::GetUploadResponse response;
    return Answer(stub_->GetUpload(context.get(), request, &response),
                  std::move(response));
  }

  absl::StatusOr<v1::CompleteResponse> Complete(
      const v1::CompleteRequest& request) override {
    Context context(this, nullptr, kCallDeadline);
    v1::CompleteResponse response;
    return Answer(stub_->Complete(context.get(), request, &response),
                  std::move(response));
  }

  absl::Status Fetch(FetchKind kind, const v1::LeaseKey& lease,
                     const std::string& sha256, int64_t offset,
                     TakeChunk take) override {
    switch (kind) {
      case FetchKind::kDataset:
        return FetchBy<v1::FetchDatasetRequest, v1::FetchDatasetResponse>(
            &v1::TrainerWorkerService::Stub::FetchDataset, lease, sha256,
            offset, take);
      case FetchKind::kBase:
        return FetchBy<v1::FetchBaseRequest, v1::FetchBaseResponse>(
            &v1::TrainerWorkerService::Stub::FetchBase, lease, sha256, offset,
            take);
      case FetchKind::kSnapshot:
        break;
    }
    return FetchBy<v1::FetchSnapshotRequest, v1::FetchSnapshotResponse>(
        &v1::TrainerWorkerService::Stub::FetchSnapshot, lease, sha256, offset,
        take);
  }

  absl::StatusOr<v1::UploadSnapshotResponse> UploadSnapshot(
      const v1::UploadHeader& header, NextChunk next) override {
    v1::UploadSnapshotRequest first;
    *first.mutable_header() = header;
    return UploadBy<v1::UploadSnapshotRequest, v1::UploadSnapshotResponse>(
        &v1::TrainerWorkerService::Stub::UploadSnapshot, first, next);
  }

  absl::StatusOr<v1::UploadCheckpointResponse> UploadCheckpoint(
      const v1::CheckpointUploadHeader& header, NextChunk next) override {
    v1::UploadCheckpointRequest first;
    *first.mutable_header() = header;
    return UploadBy<v1::UploadCheckpointRequest, v1::UploadCheckpointResponse>(
        &v1::TrainerWorkerService::Stub::UploadCheckpoint, first, next);
  }

  void CancelTransfers() override {
    MutexLock lock(&mutex_);
    for (grpc::ClientContext* context : transfers_) context->TryCancel();
  }

  void StopAcquiring() override {
    MutexLock lock(&mutex_);
    stopped_ = true;
    for (grpc::ClientContext* context : acquiring_) context->TryCancel();
  }

 private:
  using Contexts = std::set<grpc::ClientContext*>;

  // The context of one call; in `group`, unless it is null, while it lives.
  class Context {
   public:
    Context(GrpcWorkerService* service, Contexts* group)
        : service_(service), group_(group) {
      if (group == nullptr) return;
      MutexLock lock(&service->mutex_);
      group->insert(&context_);
      if (group == &service->acquiring_ && service->stopped_) {
        context_.TryCancel();
      }
    }
    Context(GrpcWorkerService* service, Contexts* group,
            std::chrono::milliseconds deadline)
        : Context(service, group) {
      context_.set_deadline(std::chrono::system_clock::now() + deadline);
    }
    ~Context() {
      if (group_ == nullptr) return;
      MutexLock lock(&service_->mutex_);
      group_->erase(&context_);
    }
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    grpc::ClientContext* get() { return &context_; }

   private:
    GrpcWorkerService* const service_;
    Contexts* const group_;
    grpc::ClientContext context_;
  };

  // The codes are the same numbers.
  absl::Status ToStatus(const grpc::Status& status) const {
    if (status.ok()) return absl::OkStatus();
    const auto code = static_cast<absl::StatusCode>(status.error_code());
    if (code == absl::StatusCode::kUnavailable) {
      return absl::UnavailableError(
          absl::StrCat(server_, ": ", status.error_message()));
    }
    return absl::Status(code, status.error_message());
  }

  template <typename Response>
  absl::StatusOr<Response> Answer(const grpc::Status& status,
                                  Response&& response) const {
    if (!status.ok()) return ToStatus(status);
    return std::move(response);
  }

  template <typename Request, typename Response, typename Method>
  absl::Status FetchBy(Method method, const v1::LeaseKey& lease,
                       const std::string& sha256, int64_t offset,
                       TakeChunk take) {
    Request request;
    *request.mutable_lease() = lease;
    request.set_sha256(sha256);
    request.set_offset(offset);
    Context context(this, &transfers_);
    const auto reader = (stub_.get()->*method)(context.get(), request);
    Response response;
    absl::Status taken;
    while (taken.ok() && reader->Read(&response)) {
      taken = take(response.chunk());
    }
    if (!taken.ok()) context.get()->TryCancel();
    const absl::Status status = ToStatus(reader->Finish());
    return taken.ok() ? status : taken;
  }

  template <typename Request, typename Response, typename Method>
  absl::StatusOr<Response> UploadBy(Method method, const Request& first,
                                    NextChunk next) {
    Context context(this, &transfers_);
    Response response;
    const auto writer = (stub_.get()->*method)(context.get(), &response);
    bool open = writer->Write(first);
    Request message;
    absl::Status made;
    while (open) {
      const absl::StatusOr<bool> more = next(message.mutable_chunk());
      made = more.status();
      if (!made.ok() || !*more) break;
      open = writer->Write(message);
    }
    if (made.ok()) {
      writer->WritesDone();
    } else {
      context.get()->TryCancel();
    }
    const grpc::Status status = writer->Finish();
    if (!made.ok()) return made;
    return Answer(status, std::move(response));
  }

  const std::string server_;
  const std::unique_ptr<v1::TrainerWorkerService::Stub> stub_;
  Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  Contexts transfers_;  // guarded by mutex_, as is the next
  Contexts acquiring_;
};

}  // namespace

std::unique_ptr<WorkerService> ConnectWorkerService(
    const std::string& server, const ChannelSecurity& security) {
  return std::make_unique<GrpcWorkerService>(server, security);
}

}  // namespace pot
