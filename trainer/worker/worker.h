#ifndef POT_TRAINER_WORKER_WORKER_H_
#define POT_TRAINER_WORKER_WORKER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "engine/base/mutex.h"
#include "trainer/worker/lease_keeper.h"
#include "trainer/worker/work_directory.h"
#include "trainer/worker/worker_metrics.h"
#include "trainer/worker/worker_service.h"

namespace pot {

struct WorkerOptions {
  std::string name;
  int threads = 1;           // of OpenMP, too
  int64_t memory_bytes = 0;  // the most that a job may need
  double wait_seconds = 30;  // of an AcquireLease; at most 60
  bool once = false;         // end after one job
  LeaseKeeperOptions keeper;
  WorkerMetrics* metrics = nullptr;  // outlives the worker; null: none
  // After a job that failed here and might succeed elsewhere.
  BackoffOptions failures = {.first = absl::Seconds(2),
                             .longest = absl::Seconds(60)};
};

// Leases jobs and does them, one after the other.
class Worker {
 public:
  // Both outlive this.
  Worker(WorkerService* service, WorkDirectory* work, WorkerOptions options);

  // Until Stop(), or after one job: OK. A server that does not answer is waited
  // for; one that refuses this worker is an error, as is, with `once`, a job
  // that failed or whose end could not be told.
  absl::Status Run();

  // A running job is saved, uploaded and released first. From any thread.
  void Stop();

 private:
  absl::StatusOr<v1::AcquireLeaseResponse> Acquire();
  // What `once` ends with.
  absl::Status RunLease(const v1::Lease& lease);
  void Sleep(absl::Duration duration);
  bool stopped();

  WorkerService* const service_;
  WorkDirectory* const work_;
  const WorkerOptions options_;
  Backoff failures_;

  Mutex mutex_;
  CondVar changed_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  LeaseKeeper* keeper_ ABSL_GUARDED_BY(mutex_) = nullptr;  // of a running job
};

}  // namespace pot

#endif  // POT_TRAINER_WORKER_WORKER_H_
