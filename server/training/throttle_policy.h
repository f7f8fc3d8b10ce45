// How much of the CPU training may have beside serving.
#ifndef POT_SERVER_TRAINING_THROTTLE_POLICY_H_
#define POT_SERVER_TRAINING_THROTTLE_POLICY_H_

#include <cstdint>
#include <deque>
#include <functional>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "server/serving/latency_histogram.h"

namespace pot {

struct ThrottleOptions {
  // Of the 99th percentile of the time between two tokens of a stream. 0: a
  // breach whenever tokens are generated at all.
  absl::Duration target = absl::ZeroDuration();
  // The percentile is over this long, looked at anew every `interval`.
  absl::Duration window = absl::Seconds(5);
  absl::Duration interval = absl::Seconds(1);
  // Fewer tokens in the window say nothing; below 100 the percentile is the
  // longest.
  uint64_t min_tokens = 5;
  // The share of time after a breach, and after an interval without one.
  double lower_by = 0.5;
  double raise_by = 1.25;
  double min_duty_ratio = 0.05;
};

// Multiplicative decrease and increase of the duty ratio, looked at when
// somebody asks. Thread-safe.
class ThrottlePolicy {
 public:
  // `latencies` outlives this.
  ThrottlePolicy(const LatencyHistogram* latencies, ThrottleOptions options,
                 std::function<absl::Time()> now = &absl::Now);

  // The share of time that training may compute in: 1, or at least
  // min_duty_ratio. However often and by however many workers it is asked, it
  // changes once in an interval.
  double DutyRatio();

 private:
  struct Sample {
    absl::Time time;
    LatencyHistogram::Counts counts;
  };
  bool Breached(const Sample& now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const LatencyHistogram* const latencies_;
  const ThrottleOptions options_;
  const std::function<absl::Time()> now_;
  Mutex mutex_;
  // Oldest first; at most window / interval + 1 and one older.
  std::deque<Sample> samples_ ABSL_GUARDED_BY(mutex_);
  double duty_ratio_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace pot

#endif  // POT_SERVER_TRAINING_THROTTLE_POLICY_H_
