#ifndef POT_SERVER_SECURITY_QUOTA_H_
#define POT_SERVER_SECURITY_QUOTA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"

namespace pot {

// What one key may use. 0: no limit.
struct QuotaLimits {
  double requests_per_second = 0;
  // Calls that may come at once after a pause; 0: those of one second, at least
  // one.
  double request_burst = 0;
  // Of prompts and answers together.
  double tokens_per_second = 0;
  // Tokens after a pause; 0: those of ten seconds.
  double token_burst = 0;
  int64_t concurrent_calls = 0;

  bool operator==(const QuotaLimits&) const = default;
};

// A balance that grows by `rate` a second up to `burst`. A clock that goes back
// adds nothing.
class TokenBucket {
 public:
  // Full at `now`.
  TokenBucket(double rate, double burst, absl::Time now);

  // Other limits; the balance stays, up to the new burst.
  void SetLimits(double rate, double burst, absl::Time now);

  // How long until the balance is `amount`, which is at most the burst; 0 when
  // it is.
  absl::Duration WaitFor(double amount, absl::Time now);
  // May leave a debt, which the rate pays off.
  void Take(double amount, absl::Time now);

  double balance() const { return balance_; }

 private:
  void Refill(absl::Time now);

  double rate_;
  double burst_;
  double balance_;
  absl::Time last_;
};

// The use of one key, over all its calls. Thread-safe.
class Quota {
 public:
  Quota(const QuotaLimits& limits, absl::Time now);

  // What is in use and in debt stays.
  void SetLimits(const QuotaLimits& limits, absl::Time now);

  // A call begins. RESOURCE_EXHAUSTED (QUOTA_EXCEEDED) with the limit, the
  // value and when to try again, and nothing taken, when a request or a place
  // is not to be had, or when tokens are owed. How many tokens a call will use
  // is known only afterwards: a call may run into debt, and the next one waits
  // until that is paid.
  absl::Status Begin(absl::Time now);
  // A call that began is over, having used `tokens`.
  void End(int64_t tokens, absl::Time now);

  int64_t running() const;

 private:
  mutable Mutex mutex_;
  QuotaLimits limits_ ABSL_GUARDED_BY(mutex_);
  TokenBucket requests_ ABSL_GUARDED_BY(mutex_);
  TokenBucket tokens_ ABSL_GUARDED_BY(mutex_);
  int64_t running_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace pot

#endif  // POT_SERVER_SECURITY_QUOTA_H_
