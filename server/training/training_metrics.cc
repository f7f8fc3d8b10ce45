#include "server/training/training_metrics.h"

#include <cmath>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "server/training/proto_time.h"
#include "server/training/qat_job_state.h"

namespace pot {
namespace {

// Of jobs with series of their own, in progress and ended each.
constexpr int kMaxJobs = 100;
constexpr absl::Duration kShownAfterEnd = absl::Hours(1);

constexpr v1::QatJobState kInProgress[] = {
    v1::QAT_JOB_STATE_RUNNING, v1::QAT_JOB_STATE_PAUSED,
    v1::QAT_JOB_STATE_EVALUATING, v1::QAT_JOB_STATE_PUBLISHING};
constexpr v1::QatJobState kEnded[] = {
    v1::QAT_JOB_STATE_SUCCEEDED, v1::QAT_JOB_STATE_GATE_REJECTED,
    v1::QAT_JOB_STATE_FAILED, v1::QAT_JOB_STATE_CANCELLED};

// Newest first.
std::vector<v1::QatJob> NewestJobs(QatJobStore* jobs,
                                   absl::Span<const v1::QatJobState> states) {
  absl::StatusOr<QatJobPage> page = jobs->List(states, kMaxJobs, "");
  if (!page.ok()) return {};
  return std::move(page->jobs);
}

// Of its newest checkpoint; 0 when there is none.
double ValidationPerplexity(QatJobStore* jobs, const std::string& job_id) {
  const absl::StatusOr<std::vector<StoredCheckpoint>> checkpoints =
      jobs->ListCheckpoints(job_id);
  if (!checkpoints.ok() || checkpoints->empty()) return 0;
  return checkpoints->back().checkpoint.evaluation().perplexity();
}

}  // namespace

void CollectTrainingMetrics(QatJobStore* jobs, const PublishCounters& publishes,
                            absl::Time now, MetricFamilies* families) {
  MetricFamily states{"pot_jobs", "QAT jobs by state.", MetricType::kGauge, {}};
  const auto counts = jobs->CountByState();
  for (int i = v1::QatJobState_MIN + 1; counts.ok() && i <= v1::QatJobState_MAX;
       ++i) {
    const auto state = static_cast<v1::QatJobState>(i);
    const auto count = counts->find(state);
    states.Add({{"state", std::string(QatJobStateName(state))}},
               count == counts->end() ? 0 : static_cast<double>(count->second));
  }

  std::vector<v1::QatJob> shown = NewestJobs(jobs, kInProgress);
  for (v1::QatJob& job : NewestJobs(jobs, kEnded)) {
    if (FromProtoTime(job.end_time()) + kShownAfterEnd > now) {
      shown.push_back(std::move(job));
    }
  }
  MetricFamily progress{"pot_job_progress_ratio",
                        "Steps done, over all.",
                        MetricType::kGauge,
                        {}};
  MetricFamily eta{"pot_job_eta_seconds",
                   "To the end of the training.",
                   MetricType::kGauge,
                   {}};
  MetricFamily loss{"pot_job_train_loss",
                    "Running mean of the training loss.",
                    MetricType::kGauge,
                    {}};
  MetricFamily perplexity{"pot_job_val_perplexity",
                          "Validation perplexity of the newest checkpoint.",
                          MetricType::kGauge,
                          {}};
  MetricFamily speed{"pot_job_tokens_per_second",
                     "Training tokens per second.",
                     MetricType::kGauge,
                     {}};
  for (const v1::QatJob& job : shown) {
    const MetricLabels labels = {{"job", job.job_id()}};
    const v1::JobProgress& now_at = job.progress();
    if (now_at.total_steps() > 0) {
      progress.Add(labels, static_cast<double>(now_at.step()) /
                               static_cast<double>(now_at.total_steps()));
    }
    if (now_at.step() > 0) loss.Add(labels, now_at.smoothed_train_loss());
    const double measured = ValidationPerplexity(jobs, job.job_id());
    if (measured > 0 && std::isfinite(measured)) {
      perplexity.Add(labels, measured);
    }
    if (job.state() != v1::QAT_JOB_STATE_RUNNING) continue;
    if (now_at.has_eta_seconds()) eta.Add(labels, now_at.eta_seconds());
    speed.Add(labels, now_at.tokens_per_second());
  }
  for (MetricFamily* family :
       {&states, &progress, &eta, &loss, &perplexity, &speed}) {
    families->push_back(std::move(*family));
  }

  families->push_back(SingleMetric(
      "pot_lease_expirations_total", "Workers that were not heard of in time.",
      MetricType::kCounter, static_cast<double>(jobs->lease_expirations())));
  MetricFamily results{"pot_publish_total",
                       "Attempts to publish, by result.",
                       MetricType::kCounter,
                       {}};
  for (const auto& [result, count] :
       {std::pair<const char*, const std::atomic<uint64_t>*>{
            "published", &publishes.published},
        {"gate_rejected", &publishes.gate_rejected},
        {"failed", &publishes.failed}}) {
    results.Add({{"result", result}}, static_cast<double>(count->load()));
  }
  families->push_back(std::move(results));
}

std::map<std::string, double> PublishedPerplexities(QatJobStore* jobs) {
  std::map<std::string, double> perplexities;
  for (const v1::QatJob& job : NewestJobs(jobs, kEnded)) {
    const double perplexity = job.gate().checkpoint().perplexity();
    if (job.has_published() && perplexity > 0) {
      perplexities.emplace(job.published().sha256(), perplexity);
    }
  }
  return perplexities;
}

}  // namespace pot
