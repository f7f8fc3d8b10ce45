// How long to wait between attempts.
#ifndef POT_TRAINER_WORKER_BACKOFF_H_
#define POT_TRAINER_WORKER_BACKOFF_H_

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"
#include "engine/base/philox.h"

namespace pot {

struct BackoffOptions {
  absl::Duration first = absl::Milliseconds(100);
  absl::Duration longest = absl::Seconds(5);
  double factor = 1.6;
  // Each wait is shortened by up to this share, at random, so that workers
  // that lost a server together do not come back together.
  double jitter = 0.4;
};

class Backoff {
 public:
  Backoff(const BackoffOptions& options, uint64_t seed)
      : options_(options), seed_(seed), wait_(options.first) {}

  absl::Duration Next() {
    const absl::Duration wait = wait_;
    wait_ = std::min(options_.longest, wait_ * options_.factor);
    return wait * (1 - options_.jitter * PhiloxUniform(seed_, 0, attempts_++));
  }
  void Reset() { wait_ = options_.first; }

 private:
  const BackoffOptions options_;
  const uint64_t seed_;
  uint64_t attempts_ = 0;
  absl::Duration wait_;
};

}  // namespace pot

#endif  // POT_TRAINER_WORKER_BACKOFF_H_
