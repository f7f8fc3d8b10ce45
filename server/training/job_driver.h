// What the server itself does for jobs once their training is over.
#ifndef POT_SERVER_TRAINING_JOB_DRIVER_H_
#define POT_SERVER_TRAINING_JOB_DRIVER_H_

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "server/serving/model_repository.h"
#include "server/training/auto_rollback.h"
#include "server/training/checkpoint_publisher.h"
#include "server/training/dataset_store.h"
#include "server/training/qat_job_store.h"
#include "server/training/quality_gate.h"
#include "server/training/upload_store.h"

namespace pot {

struct JobDriverOptions {
  // All outlive the driver.
  QatJobStore* store = nullptr;
  ModelRepository* repository = nullptr;
  CheckpointPublisher* publisher = nullptr;
  UploadStore* uploads = nullptr;
  DatasetStore* datasets = nullptr;  // null: nobody clears up there
  // Of jobs and datasets (job_files.h).
  std::string root;
  LoadOptions load;
  // ModelIdentity.engine of what is published.
  std::string engine;
  std::function<absl::Time()> now = &absl::Now;
  // Leases and probations are looked at this often, everything else as it
  // happens.
  absl::Duration tick = absl::Seconds(1);
};

// One thread takes jobs from EVALUATING through the gate and PUBLISHING to a
// final state, ends leases and probations whose time is over and removes
// garbage. All it knows of a job is in QatJobStore and in the alias history,
// and every step may be repeated: after a crash anywhere it goes on.
class JobDriver {
 public:
  explicit JobDriver(JobDriverOptions options);
  // Cancels an evaluation; it begins again with the next driver.
  ~JobDriver();
  JobDriver(const JobDriver&) = delete;
  JobDriver& operator=(const JobDriver&) = delete;

  // Removes what crashed uploads left. Before workers can call.
  void RemoveOrphans();

  // Watches the probations that were running, starts the thread.
  void Start();

  // The hook for the end of calls (server/rpc/call.h).
  void OnCallEnd(const std::string& model, int64_t version,
                 const absl::Status& status) {
    rollback_.OnCallEnd(model, version, status);
  }

  // What the thread does again and again; for tests, without Start().
  void RunOnce();

 private:
  struct Evaluated {
    std::string job_id;
    std::string checkpoint_id;
    absl::StatusOr<v1::GateReport> report;
  };

  void ThreadMain();
  void Wake();
  absl::StatusOr<std::vector<v1::QatJob>> JobsIn(v1::QatJobState state);
  void Evaluate(const v1::QatJob& job);
  // The evaluation's text, protocol and models.
  absl::StatusOr<GateInput> GateInputOf(const v1::QatJob& job,
                                        const StoredCheckpoint& candidate);
  // With the report in the store: what comes after the gate.
  void AfterGate(const v1::QatJob& job, const v1::GateReport& report);
  void TakeEvaluated();
  void CancelEvaluationOf(const std::set<std::string>& changed);
  void Publish(const v1::QatJob& job);
  void BeginProbation(const v1::QatJob& job);
  void BeginProbations();
  void EndProbations();
  // Nothing for OK, or for a job that was cancelled or deleted meanwhile.
  void LogError(const std::string& job_id, const std::string& what,
                const absl::Status& status);
  void Fail(const std::string& job_id, const absl::Status& status);

  const JobDriverOptions options_;
  AutoRollback rollback_;
  std::unique_ptr<QualityGate> gate_;  // goes first
  // Of the thread that runs RunOnce().
  std::string evaluating_;  // the job in the gate; empty: none
  absl::Time last_tick_ = absl::InfinitePast();
  absl::Time last_sweep_ = absl::InfinitePast();

  Mutex mutex_;
  CondVar wake_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool work_ ABSL_GUARDED_BY(mutex_) = true;
  std::set<std::string> changed_ ABSL_GUARDED_BY(mutex_);
  std::optional<Evaluated> evaluated_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<QatJobStore::Subscription> subscription_;
  std::thread thread_;
};

}  // namespace pot

#endif  // POT_SERVER_TRAINING_JOB_DRIVER_H_
