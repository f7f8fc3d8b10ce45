#ifndef POT_SERVER_TRAINING_BACKEND_H_
#define POT_SERVER_TRAINING_BACKEND_H_

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "engine/gpt2/model_weights.h"
#include "server/rpc/call.h"
#include "server/rpc/trainer_worker_service.h"
#include "server/serving/latency_histogram.h"
#include "server/serving/model_repository.h"
#include "server/training/checkpoint_publisher.h"
#include "server/training/job_driver.h"
#include "server/training/qat_job_store.h"
#include "server/training/throttle_policy.h"
#include "server/training/upload_acceptor.h"
#include "server/training/upload_store.h"

namespace pot {

struct TrainingBackendOptions {
  // All outlive the backend.
  QatJobStore* store = nullptr;
  ModelRepository* repository = nullptr;
  CallTracker* calls = nullptr;
  const LatencyHistogram* inter_token_latencies = nullptr;
  // Of jobs and datasets (training/job_files.h); its directories are there.
  std::string root;
  LoadOptions load;
  std::string engine;  // ModelIdentity.engine
  // ThrottleOptions.target.
  absl::Duration inter_token_target;
};

// What serves workers and takes their jobs to the end: the parts between
// QatJobStore and the gRPC server, in the order in which they start. Outlives
// the gRPC server.
class TrainingBackend {
 public:
  // Removes what crashed uploads left.
  explicit TrainingBackend(const TrainingBackendOptions& options);
  // No call may end after it.
  ~TrainingBackend();
  TrainingBackend(const TrainingBackend&) = delete;
  TrainingBackend& operator=(const TrainingBackend&) = delete;

  // Goes on with the jobs and probations that were under way when the last
  // server stopped. Once models are loaded, which gates and rollbacks use.
  void Start();

  // For the gRPC server and for TrainingService.
  TrainerWorkerService* service() { return service_.get(); }
  CheckpointPublisher* publisher() { return &publisher_; }

 private:
  CallTracker* const calls_;
  ThrottlePolicy throttle_;
  UploadStore uploads_;
  CheckpointPublisher publisher_;
  UploadAcceptor acceptor_;
  JobDriver driver_;
  std::unique_ptr<TrainerWorkerService> service_;
};

}  // namespace pot

#endif  // POT_SERVER_TRAINING_BACKEND_H_
