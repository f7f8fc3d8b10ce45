// What a worker tells Prometheus: pot_worker_*.
#ifndef POT_TRAINER_WORKER_WORKER_METRICS_H_
#define POT_TRAINER_WORKER_WORKER_METRICS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "engine/base/mutex.h"
#include "server/observability/metric_family.h"

namespace pot {

// Thread-safe.
class WorkerMetrics {
 public:
  // `worker`: its name.
  explicit WorkerMetrics(std::string worker);

  void JobStarted(const std::string& job_id);
  // One optimizer step of the running job.
  void Step(int64_t tokens, double tokens_per_second, double loss);
  // One of the outcomes that server/observability/README.md lists.
  void JobEnded(absl::string_view outcome);

  MetricFamilies Collect() const;

 private:
  const std::string worker_;
  mutable Mutex mutex_;
  std::string job_id_ ABSL_GUARDED_BY(mutex_);  // empty: idle
  uint64_t steps_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  double tokens_per_second_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<double> loss_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, uint64_t> ended_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pot

#endif  // POT_TRAINER_WORKER_WORKER_METRICS_H_
