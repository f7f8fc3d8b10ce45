// The server as a worker sees it: proto/pot/v1/worker.proto as blocking calls.
#ifndef POT_TRAINER_WORKER_WORKER_SERVICE_H_
#define POT_TRAINER_WORKER_WORKER_SERVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/transport/channel_security.h"
#include "pot/v1/worker.pb.h"

namespace pot {

// Which of the three Fetch methods.
enum class FetchKind { kDataset, kBase, kSnapshot };

// Thread-safe. A call is tried once; its errors have the server's code and
// message. A connection that breaks is UNAVAILABLE, DEADLINE_EXCEEDED or
// CANCELLED.
class WorkerService {
 public:
  using TakeChunk = absl::FunctionRef<absl::Status(const v1::TransferChunk&)>;
  // Sets the next chunk; false when there is none.
  using NextChunk = absl::FunctionRef<absl::StatusOr<bool>(v1::TransferChunk*)>;

  virtual ~WorkerService() = default;

  virtual absl::StatusOr<v1::AcquireLeaseResponse> AcquireLease(
      const v1::AcquireLeaseRequest& request) = 0;
  virtual absl::StatusOr<v1::HeartbeatResponse> Heartbeat(
      const v1::HeartbeatRequest& request) = 0;
  virtual absl::StatusOr<v1::ReportEventsResponse> ReportEvents(
      const v1::ReportEventsRequest& request) = 0;
  virtual absl::StatusOr<v1::GetUploadResponse> GetUpload(
      const v1::GetUploadRequest& request) = 0;
  virtual absl::StatusOr<v1::CompleteResponse> Complete(
      const v1::CompleteRequest& request) = 0;

  // Passes on the chunks as they come. An error of `take` ends the call and is
  // its result.
  virtual absl::Status Fetch(FetchKind kind, const v1::LeaseKey& lease,
                             const std::string& sha256, int64_t offset,
                             TakeChunk take) = 0;

  // The chunks of `next` after the header. The server may answer before the
  // last one. An error of `next` ends the call and is its result.
  virtual absl::StatusOr<v1::UploadSnapshotResponse> UploadSnapshot(
      const v1::UploadHeader& header, NextChunk next) = 0;
  virtual absl::StatusOr<v1::UploadCheckpointResponse> UploadCheckpoint(
      const v1::CheckpointUploadHeader& header, NextChunk next) = 0;

  // Fetches and uploads that are under way end with CANCELLED.
  virtual void CancelTransfers() = 0;
  // AcquireLease, if under way, ends with CANCELLED, and so do all later ones.
  virtual void StopAcquiring() = 0;
};

// Connects with the first call.
std::unique_ptr<WorkerService> ConnectWorkerService(
    const std::string& server, const ChannelSecurity& security);

}  // namespace pot

#endif  // POT_TRAINER_WORKER_WORKER_SERVICE_H_
