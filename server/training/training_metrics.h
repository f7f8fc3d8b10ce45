// What metrics say of jobs: pot_jobs, pot_job_*, pot_publish_total.
#ifndef POT_SERVER_TRAINING_TRAINING_METRICS_H_
#define POT_SERVER_TRAINING_TRAINING_METRICS_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <string>

#include "absl/time/time.h"
#include "server/observability/metric_family.h"
#include "server/training/qat_job_store.h"

namespace pot {

// Attempts to publish, of jobs and by hand.
struct PublishCounters {
  std::atomic<uint64_t> published = 0;
  std::atomic<uint64_t> gate_rejected = 0;
  std::atomic<uint64_t> failed = 0;
};

// Reads the store, and so may wait for the disk. What cannot be read is
// missing.
void CollectTrainingMetrics(QatJobStore* jobs, const PublishCounters& publishes,
                            absl::Time now, MetricFamilies* families);

// Perplexities that the gate measured, by the digest of the version that was
// published; of the newest jobs.
std::map<std::string, double> PublishedPerplexities(QatJobStore* jobs);

}  // namespace pot

#endif  // POT_SERVER_TRAINING_TRAINING_METRICS_H_
