#include "server/training_backend.h"

#include <utility>

#include "server/training/job_files.h"

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
                         CheckpointPublisher* publisher, UploadStore* uploads) {
  JobDriverOptions driving;
  driving.store = options.store;
  driving.repository = options.repository;
  driving.publisher = publisher;
  driving.uploads = uploads;
  driving.root = options.root;
  driving.load = options.load;
  driving.engine = options.engine;
  return driving;
}

}  // namespace

TrainingBackend::TrainingBackend(const TrainingBackendOptions& options)
    : calls_(options.calls),
      throttle_(options.inter_token_latencies, Throttle(options)),
      uploads_(Uploads(options)),
      publisher_(options.repository),
      acceptor_(options.store, &uploads_, options.repository, options.root,
                options.load),
      driver_(Driving(options, &publisher_, &uploads_)) {
  driver_.RemoveOrphans();
  TrainerWorkerServiceOptions service;
  service.store = options.store;
  service.uploads = &uploads_;
  service.acceptor = &acceptor_;
  service.repository = options.repository;
  service.calls = options.calls;
  service.root = options.root;
  service.duty_ratio = [this] { return throttle_.DutyRatio(); };
  service_ = std::make_unique<TrainerWorkerService>(std::move(service));
  options.calls->SetOutcomeObserver([this](const std::string& model,
                                           int64_t version,
                                           const absl::Status& status) {
    driver_.OnCallEnd(model, version, status);
  });
}

TrainingBackend::~TrainingBackend() { calls_->SetOutcomeObserver(nullptr); }

void TrainingBackend::Start() { driver_.Start(); }

}  // namespace pot
