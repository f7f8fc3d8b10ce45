#ifndef POT_SERVER_TRAINING_BACKEND_H_
#define POT_SERVER_TRAINING_BACKEND_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/gpt2/model_weights.h"
#include "server/observability/metric_family.h"
#include "server/rpc/call.h"
#include "server/rpc/trainer_worker_service.h"
#include "server/rpc/training_service.h"
#include "server/serving/latency_histogram.h"
#include "server/serving/model_repository.h"
#include "server/training/checkpoint_publisher.h"
#include "server/training/dataset_store.h"
#include "server/training/job_driver.h"
#include "server/training/qat_job_store.h"
#include "server/training/throttle_policy.h"
#include "server/training/upload_acceptor.h"
#include "server/training/upload_store.h"

namespace pot {

struct TrainingBackendOptions {
  // These three outlive the backend.
  ModelRepository* repository = nullptr;
  CallTracker* calls = nullptr;
  const LatencyHistogram* inter_token_latencies = nullptr;
  // Of jobs and datasets (training/job_files.h); made when it is not there.
  std::string root;
  LoadOptions load;
  std::string engine;  // ModelIdentity.engine
  // DatasetStoreOptions.max_bytes and unused_age, QatJobStoreOptions.
  int64_t max_dataset_bytes = int64_t{4} << 30;
  absl::Duration dataset_age = absl::Hours(7 * 24);
  int64_t max_queued_jobs = 256;
  // Free space below which uploads are refused.
  int64_t min_free_disk_bytes = 0;
  // ThrottleOptions.target.
  absl::Duration inter_token_target;
};

// All parts of training, in the order in which they start: the store of jobs,
// what workers and submitters send, what becomes of it, two services. Outlives
// the gRPC server.
class TrainingBackend {
 public:
  // Errors of QatJobStore::Open() and DatasetStore::Open(). Removes what
  // crashed uploads left.
  static absl::StatusOr<std::unique_ptr<TrainingBackend>> Open(
      const TrainingBackendOptions& options);
  // No call may end after it.
  ~TrainingBackend();
  TrainingBackend(const TrainingBackend&) = delete;
  TrainingBackend& operator=(const TrainingBackend&) = delete;

  // Goes on with the jobs and probations that were under way when the last
  // server stopped. Once models are loaded, which gates and rollbacks use.
  void Start();

  // What metrics say of jobs, and the perplexity of what they published by its
  // digest. Waits for the disk.
  void CollectMetrics(MetricFamilies* families);
  std::map<std::string, double> PublishedPerplexities();

  // For the gRPC server.
  TrainingService* training_service() { return training_service_.get(); }
  TrainerWorkerService* worker_service() { return worker_service_.get(); }

 private:
  TrainingBackend(const TrainingBackendOptions& options,
                  std::unique_ptr<QatJobStore> jobs,
                  std::unique_ptr<DatasetStore> datasets);

  CallTracker* const calls_;
  const std::unique_ptr<QatJobStore> jobs_;
  const std::unique_ptr<DatasetStore> datasets_;
  ThrottlePolicy throttle_;
  UploadStore uploads_;
  CheckpointPublisher publisher_;
  UploadAcceptor acceptor_;
  JobDriver driver_;
  std::unique_ptr<TrainingService> training_service_;
  std::unique_ptr<TrainerWorkerService> worker_service_;
};

}  // namespace pot

#endif  // POT_SERVER_TRAINING_BACKEND_H_
