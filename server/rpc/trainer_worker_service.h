#ifndef POT_SERVER_RPC_TRAINER_WORKER_SERVICE_H_
#define POT_SERVER_RPC_TRAINER_WORKER_SERVICE_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "pot/v1/worker.grpc.pb.h"
#include "server/rpc/call.h"
#include "server/rpc/lease_waiters.h"
#include "server/rpc/worker_pool.h"
#include "server/serving/model_repository.h"
#include "server/training/qat_job_store.h"
#include "server/training/upload_acceptor.h"
#include "server/training/upload_store.h"

namespace pot {

struct TrainerWorkerServiceOptions {
  // All outlive the service.
  QatJobStore* store = nullptr;
  UploadStore* uploads = nullptr;
  UploadAcceptor* acceptor = nullptr;
  ModelRepository* repository = nullptr;
  CallTracker* calls = nullptr;
  // Of jobs and datasets (training/job_files.h).
  std::string root;
  // Lease.ttl_seconds is the store's.
  absl::Duration heartbeat = absl::Seconds(2);
  absl::Duration lease_ttl = absl::Seconds(30);
  // The share of time that workers may compute in, now; below 1 CONTINUE
  // becomes THROTTLE. Unset: 1.
  std::function<double()> duty_ratio;
  // Threads for what waits for the database, and for what reads whole uploads.
  int quick_threads = 2;
  int slow_threads = 1;
  size_t max_queued = 256;
};

// pot.v1.TrainerWorkerService (proto/pot/v1/worker.proto). Every method takes
// raw bytes, see server/rpc/wire.h. gRPC's threads parse, and copy pieces of
// files; what waits for the database or reads a whole upload runs on own ones.
class TrainerWorkerService final
    : public v1::TrainerWorkerService::WithRawCallbackMethod_AcquireLease<
          v1::TrainerWorkerService::WithRawCallbackMethod_Heartbeat<
              v1::TrainerWorkerService::WithRawCallbackMethod_ReportEvents<
                  v1::TrainerWorkerService::WithRawCallbackMethod_FetchDataset<
                      v1::TrainerWorkerService::WithRawCallbackMethod_FetchBase<
                          v1::TrainerWorkerService::WithRawCallbackMethod_FetchSnapshot<
                              v1::TrainerWorkerService::WithRawCallbackMethod_GetUpload<
                                  v1::TrainerWorkerService::
                                      WithRawCallbackMethod_UploadSnapshot<
                                          v1::TrainerWorkerService::
                                              WithRawCallbackMethod_UploadCheckpoint<
                                                  v1::TrainerWorkerService::
                                                      WithRawCallbackMethod_Complete<
                                                          v1::TrainerWorkerService::
                                                              Service>>>>>>>>>> {
 public:
  // Outlives the gRPC server.
  explicit TrainerWorkerService(TrainerWorkerServiceOptions options);

  using Rpc = grpc::CallbackServerContext;
  using Bytes = grpc::ByteBuffer;
  using Unary = grpc::ServerUnaryReactor;
  using Reads = grpc::ServerReadReactor<Bytes>;
  using Writes = grpc::ServerWriteReactor<Bytes>;

  Unary* AcquireLease(Rpc* rpc, const Bytes* request, Bytes* response) override;
  Unary* Heartbeat(Rpc* rpc, const Bytes* request, Bytes* response) override;
  Unary* ReportEvents(Rpc* rpc, const Bytes* request, Bytes* response) override;
  Writes* FetchDataset(Rpc* rpc, const Bytes* request) override;
  Writes* FetchBase(Rpc* rpc, const Bytes* request) override;
  Writes* FetchSnapshot(Rpc* rpc, const Bytes* request) override;
  Unary* GetUpload(Rpc* rpc, const Bytes* request, Bytes* response) override;
  Reads* UploadSnapshot(Rpc* rpc, Bytes* response) override;
  Reads* UploadCheckpoint(Rpc* rpc, Bytes* response) override;
  Unary* Complete(Rpc* rpc, const Bytes* request, Bytes* response) override;

 private:
  // The lease's answer; false when there is no job for this worker.
  absl::StatusOr<bool> TryLease(const v1::WorkerInfo& worker,
                                v1::AcquireLeaseResponse* response);
  absl::Status AnswerHeartbeat(const v1::HeartbeatRequest& request,
                               v1::HeartbeatResponse* response);

  const TrainerWorkerServiceOptions options_;
  WorkerPool quick_;
  WorkerPool slow_;
  LeaseWaiters waiters_;
  // Last, so that it goes first.
  std::shared_ptr<QatJobStore::Subscription> job_changes_;
};

}  // namespace pot

#endif  // POT_SERVER_RPC_TRAINER_WORKER_SERVICE_H_
