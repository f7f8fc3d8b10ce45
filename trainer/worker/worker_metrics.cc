#include "trainer/worker/worker_metrics.h"

#include <utility>

#include "engine/loaded_model.h"
#include "server/observability/process_metrics.h"

namespace pot {

WorkerMetrics::WorkerMetrics(std::string worker) : worker_(std::move(worker)) {
  for (const char* outcome :
       {"trained", "cancelled", "released", "failed", "lost"}) {
    ended_[outcome] = 0;
  }
}

void WorkerMetrics::JobStarted(const std::string& job_id) {
  MutexLock lock(&mutex_);
  job_id_ = job_id;
}

void WorkerMetrics::Step(int64_t tokens, double tokens_per_second,
                         double loss) {
  MutexLock lock(&mutex_);
  ++steps_;
  tokens_ += static_cast<uint64_t>(tokens);
  tokens_per_second_ = tokens_per_second;
  loss_ = loss;
}

void WorkerMetrics::JobEnded(absl::string_view outcome) {
  MutexLock lock(&mutex_);
  ++ended_[std::string(outcome)];
  job_id_.clear();
  tokens_per_second_ = 0;
}

MetricFamilies WorkerMetrics::Collect() const {
  MetricFamilies families;
  MetricFamily info{"pot_worker_info", "Who trains.", MetricType::kGauge, {}};
  info.Add({{"worker", worker_}, {"version", std::string(kEngineVersion)}}, 1);
  families.push_back(std::move(info));
  {
    MutexLock lock(&mutex_);
    MetricFamily jobs{"pot_worker_jobs_total",
                      "Leases that ended, by outcome.",
                      MetricType::kCounter,
                      {}};
    for (const auto& [outcome, count] : ended_) {
      jobs.Add({{"outcome", outcome}}, static_cast<double>(count));
    }
    families.push_back(std::move(jobs));
    MetricFamily job{
        "pot_worker_job", "The job that it holds.", MetricType::kGauge, {}};
    if (!job_id_.empty()) job.Add({{"job", job_id_}}, 1);
    families.push_back(std::move(job));
    families.push_back(SingleMetric("pot_worker_steps_total",
                                    "Optimizer steps.", MetricType::kCounter,
                                    static_cast<double>(steps_)));
    families.push_back(SingleMetric("pot_worker_tokens_total",
                                    "Training tokens.", MetricType::kCounter,
                                    static_cast<double>(tokens_)));
    families.push_back(SingleMetric("pot_worker_tokens_per_second",
                                    "Of the running job; 0 while idle.",
                                    MetricType::kGauge, tokens_per_second_));
    if (loss_.has_value()) {
      families.push_back(SingleMetric("pot_worker_train_loss",
                                      "Of the last step.", MetricType::kGauge,
                                      *loss_));
    }
  }
  CollectProcessMetrics(&families);
  return families;
}

}  // namespace pot
