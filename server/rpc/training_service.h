#ifndef POT_SERVER_RPC_TRAINING_SERVICE_H_
#define POT_SERVER_RPC_TRAINING_SERVICE_H_

#include <cstddef>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "pot/v1/training.grpc.pb.h"
#include "server/rpc/call.h"
#include "server/rpc/worker_pool.h"
#include "server/serving/model_repository.h"
#include "server/training/checkpoint_publisher.h"
#include "server/training/dataset_store.h"
#include "server/training/qat_job_store.h"

namespace pot {

struct TrainingServiceOptions {
  // All outlive the service.
  QatJobStore* jobs = nullptr;
  DatasetStore* datasets = nullptr;
  ModelRepository* repository = nullptr;
  CheckpointPublisher* publisher = nullptr;
  CallTracker* calls = nullptr;
  // Of jobs and datasets (training/job_files.h).
  std::string root;
  // ModelIdentity.engine of what is published.
  std::string engine;
  // QatJob.submitter and JobStateChange.actor: who calls. Unset: nobody knows,
  // "".
  std::function<std::string(const grpc::CallbackServerContext&)> actor;
  // Threads for what waits for the database, and for what reads texts or
  // publishes.
  int quick_threads = 2;
  int slow_threads = 2;
  size_t max_queued = 256;
};

// pot.v1.TrainingService (proto/pot/v1/training.proto). Every method takes raw
// bytes, see server/rpc/wire.h. gRPC's threads parse, and write pieces of
// uploads; everything else runs on own ones.
class TrainingService final
    : public v1::TrainingService::WithRawCallbackMethod_UploadDataset<
          v1::TrainingService::WithRawCallbackMethod_SubmitQat<
              v1::TrainingService::WithRawCallbackMethod_GetJob<
                  v1::TrainingService::WithRawCallbackMethod_ListJobs<
                      v1::TrainingService::WithRawCallbackMethod_WatchJob<
                          v1::TrainingService::WithRawCallbackMethod_CancelJob<
                              v1::TrainingService::WithRawCallbackMethod_PauseJob<
                                  v1::TrainingService::WithRawCallbackMethod_ResumeJob<
                                      v1::TrainingService::WithRawCallbackMethod_StopEarlyAndPublish<
                                          v1::TrainingService::WithRawCallbackMethod_ListCheckpoints<
                                              v1::TrainingService::
                                                  WithRawCallbackMethod_PublishCheckpoint<
                                                      v1::TrainingService::
                                                          WithRawCallbackMethod_DeleteJob<
                                                              v1::TrainingService::
                                                                  Service>>>>>>>>>>>> {
 public:
  // Outlives the gRPC server.
  explicit TrainingService(TrainingServiceOptions options);

  using Rpc = grpc::CallbackServerContext;
  using Bytes = grpc::ByteBuffer;
  using Unary = grpc::ServerUnaryReactor;

  grpc::ServerReadReactor<Bytes>* UploadDataset(Rpc* rpc,
                                                Bytes* response) override;
  Unary* SubmitQat(Rpc* rpc, const Bytes* request, Bytes* response) override;
  Unary* GetJob(Rpc* rpc, const Bytes* request, Bytes* response) override;
  Unary* ListJobs(Rpc* rpc, const Bytes* request, Bytes* response) override;
  grpc::ServerWriteReactor<Bytes>* WatchJob(Rpc* rpc,
                                            const Bytes* request) override;
  Unary* CancelJob(Rpc* rpc, const Bytes* request, Bytes* response) override;
  Unary* PauseJob(Rpc* rpc, const Bytes* request, Bytes* response) override;
  Unary* ResumeJob(Rpc* rpc, const Bytes* request, Bytes* response) override;
  Unary* StopEarlyAndPublish(Rpc* rpc, const Bytes* request,
                             Bytes* response) override;
  Unary* ListCheckpoints(Rpc* rpc, const Bytes* request,
                         Bytes* response) override;
  Unary* PublishCheckpoint(Rpc* rpc, const Bytes* request,
                           Bytes* response) override;
  Unary* DeleteJob(Rpc* rpc, const Bytes* request, Bytes* response) override;

 private:
  std::string Actor(const Rpc& rpc) const;
  // The published version.
  absl::StatusOr<v1::ModelIdentity> Publish(
      const v1::PublishCheckpointRequest& request, const std::string& actor);

  const TrainingServiceOptions options_;
  WorkerPool quick_;
  WorkerPool slow_;
};

}  // namespace pot

#endif  // POT_SERVER_RPC_TRAINING_SERVICE_H_
