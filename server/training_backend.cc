#include "server/training_backend.h"

#include <utility>

#include "engine/base/status_macros.h"
#include "server/rpc/caller.h"
#include "server/training/job_files.h"
#include "server/training/training_metrics.h"

namespace pot {
namespace {

ThrottleOptions Throttle(const TrainingBackendOptions& options) {
  ThrottleOptions throttle;
  throttle.target = options.inter_token_target;
  return throttle;
}

UploadStoreOptions Uploads(const TrainingBackendOptions& options) {
  UploadStoreOptions uploads;
  uploads.jobs_directory = JobsDirectory(options.root);
  uploads.check_disk_space = [repository = options.repository](int64_t bytes) {
    return repository->CheckDiskSpace(bytes);
  };
  return uploads;
}

JobDriverOptions Driving(const TrainingBackendOptions& options,
                         QatJobStore* jobs, DatasetStore* datasets,
                         CheckpointPublisher* publisher, UploadStore* uploads) {
  JobDriverOptions driving;
  driving.store = jobs;
  driving.datasets = datasets;
  driving.repository = options.repository;
  driving.publisher = publisher;
  driving.uploads = uploads;
  driving.root = options.root;
  driving.load = options.load;
  driving.engine = options.engine;
  return driving;
}

TrainingServiceOptions ForSubmitters(const TrainingBackendOptions& options) {
  TrainingServiceOptions service;
  service.repository = options.repository;
  service.calls = options.calls;
  service.root = options.root;
  service.engine = options.engine;
  service.actor = [calls = options.calls](
                      const grpc::CallbackServerContext& rpc) {
    return CallerName(calls->access(), rpc);
  };
  return service;
}

TrainerWorkerServiceOptions ForWorkers(const TrainingBackendOptions& options) {
  TrainerWorkerServiceOptions service;
  service.repository = options.repository;
  service.calls = options.calls;
  service.root = options.root;
  return service;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TrainingBackend>> TrainingBackend::Open(
    const TrainingBackendOptions& options) {
  POT_RETURN_IF_ERROR(MakeJobDirectories(options.root));
  QatJobStoreOptions store;
  store.path = JobDatabasePath(options.root);
  store.max_queued_jobs = options.max_queued_jobs;
  POT_ASSIGN_OR_RETURN(std::unique_ptr<QatJobStore> jobs,
                       QatJobStore::Open(std::move(store)));
  DatasetStoreOptions texts;
  texts.root = options.root;
  texts.max_bytes = options.max_dataset_bytes;
  texts.unused_age = options.dataset_age;
  texts.disk_reserve_bytes = options.min_free_disk_bytes;
  POT_ASSIGN_OR_RETURN(std::unique_ptr<DatasetStore> datasets,
                       DatasetStore::Open(jobs.get(), std::move(texts)));
  return std::unique_ptr<TrainingBackend>(
      new TrainingBackend(options, std::move(jobs), std::move(datasets)));
}

TrainingBackend::TrainingBackend(const TrainingBackendOptions& options,
                                 std::unique_ptr<QatJobStore> jobs,
                                 std::unique_ptr<DatasetStore> datasets)
    : calls_(options.calls),
      jobs_(std::move(jobs)),
      datasets_(std::move(datasets)),
      throttle_(options.inter_token_latencies, Throttle(options)),
      uploads_(Uploads(options)),
      publisher_(options.repository),
      acceptor_(jobs_.get(), &uploads_, options.repository, options.root,
                options.load),
      driver_(Driving(options, jobs_.get(), datasets_.get(), &publisher_,
                      &uploads_)) {
  driver_.RemoveOrphans();
  TrainingServiceOptions submitters = ForSubmitters(options);
  submitters.jobs = jobs_.get();
  submitters.datasets = datasets_.get();
  submitters.publisher = &publisher_;
  training_service_ = std::make_unique<TrainingService>(std::move(submitters));
  TrainerWorkerServiceOptions workers = ForWorkers(options);
  workers.store = jobs_.get();
  workers.uploads = &uploads_;
  workers.acceptor = &acceptor_;
  workers.duty_ratio = [this] { return throttle_.DutyRatio(); };
  worker_service_ = std::make_unique<TrainerWorkerService>(std::move(workers));
  calls_->SetOutcomeObserver([this](const std::string& model, int64_t version,
                                    const absl::Status& status) {
    driver_.OnCallEnd(model, version, status);
  });
}

TrainingBackend::~TrainingBackend() { calls_->SetOutcomeObserver(nullptr); }

void TrainingBackend::Start() { driver_.Start(); }

void TrainingBackend::CollectMetrics(MetricFamilies* families) {
  CollectTrainingMetrics(jobs_.get(), publisher_.counters(), absl::Now(),
                         families);
}

std::map<std::string, double> TrainingBackend::PublishedPerplexities() {
  return pot::PublishedPerplexities(jobs_.get());
}

}  // namespace pot
