#include "server/training/throttle_policy.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace pot {

ThrottlePolicy::ThrottlePolicy(const LatencyHistogram* latencies,
                               ThrottleOptions options,
                               std::function<absl::Time()> now)
    : latencies_(latencies), options_(options), now_(std::move(now)) {
  MutexLock lock(&mutex_);
  samples_.push_back({now_(), latencies_->Read()});
}

bool ThrottlePolicy::Breached(const Sample& now) const {
  LatencyHistogram::Counts counts = now.counts;
  for (size_t i = 0; i < counts.size(); ++i) {
    counts[i] -= samples_.front().counts[i];
  }
  const uint64_t tokens = TotalCount(counts);
  if (options_.target <= absl::ZeroDuration()) return tokens > 0;
  return tokens >= options_.min_tokens &&
         PercentileOf(counts, 0.99) > options_.target;
}

double ThrottlePolicy::DutyRatio() {
  MutexLock lock(&mutex_);
  Sample now = {now_(), {}};
  const absl::Duration since = now.time - samples_.back().time;
  // The clock may have been set back.
  if (since < absl::ZeroDuration()) samples_.back().time = now.time;
  if (since < options_.interval) return duty_ratio_;
  now.counts = latencies_->Read();
  // The one before the window stays: what came after it is in the window.
  while (samples_.size() > 1 &&
         samples_[1].time <= now.time - options_.window) {
    samples_.pop_front();
  }
  if (Breached(now)) {
    duty_ratio_ =
        std::max(options_.min_duty_ratio, duty_ratio_ * options_.lower_by);
  } else {
    // Intervals in which nobody asked count, too.
    const double intervals = std::clamp(
        std::floor(absl::FDivDuration(since, options_.interval)), 1.0, 100.0);
    duty_ratio_ =
        std::min(1.0, duty_ratio_ * std::pow(options_.raise_by, intervals));
  }
  samples_.push_back(now);
  return duty_ratio_;
}

}  // namespace pot
