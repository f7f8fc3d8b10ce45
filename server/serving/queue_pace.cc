#include "server/serving/queue_pace.h"

#include <algorithm>

namespace pot {

void QueuePace::OnDeparture(absl::Time now, bool others_wait) {
  if (last_.has_value()) {
    // Of a clock that was set back nothing is learnt.
    const absl::Duration interval =
        std::max(now - *last_, absl::ZeroDuration());
    absl::Duration& slot = intervals_[count_ % kDepartures];
    if (count_ >= kDepartures) sum_ -= slot;
    slot = interval;
    sum_ += interval;
    ++count_;
  }
  last_.reset();
  if (others_wait) last_ = now;
}

absl::Duration QueuePace::TimeFor(int64_t tasks) const {
  if (count_ < kMinDepartures) return absl::ZeroDuration();
  return sum_ / std::min(count_, kDepartures) * tasks;
}

}  // namespace pot
