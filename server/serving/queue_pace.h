// How fast a queue gets shorter.
#ifndef POT_SERVER_SERVING_QUEUE_PACE_H_
#define POT_SERVER_SERVING_QUEUE_PACE_H_

#include <array>
#include <cstdint>
#include <optional>

#include "absl/time/time.h"

namespace pot {

// The mean time between the last departures of those that left others behind:
// twice as many as the default scheduler computes together, since sequences
// that began together end together. A queue that nobody waits in has no pace.
// Not thread-safe.
class QueuePace {
 public:
  static constexpr int64_t kDepartures = 64;
  // Fewer say too little.
  static constexpr int64_t kMinDepartures = 16;

  void OnDeparture(absl::Time now, bool others_wait);

  // Until `tasks` have left; zero until the pace is known.
  absl::Duration TimeFor(int64_t tasks) const;

 private:
  std::array<absl::Duration, kDepartures> intervals_;
  absl::Duration sum_;  // of the last ones
  int64_t count_ = 0;   // ever measured
  // Of the last departure, if it left others behind.
  std::optional<absl::Time> last_;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_QUEUE_PACE_H_
