#include "server/security/quota.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

// When a place is free is anybody's guess.
constexpr absl::Duration kPlaceRetry = absl::Seconds(1);

// A debt must not make a client wait for ever, nor a duration overflow.
constexpr absl::Duration kLongestWait = absl::Hours(24);

double RequestBurst(const QuotaLimits& limits) {
  return std::max(1.0, limits.request_burst > 0 ? limits.request_burst
                                                : limits.requests_per_second);
}

double TokenBurst(const QuotaLimits& limits) {
  return std::max(1.0, limits.token_burst > 0 ? limits.token_burst
                                              : 10 * limits.tokens_per_second);
}

absl::Status Exceeded(absl::string_view what, const std::string& limit,
                      const std::string& value, absl::Duration retry_after) {
  return WithDetails(
      absl::ResourceExhaustedError(absl::StrCat(
          "the key's quota of ", limit, " ", what, " is used up: ", value)),
      {.reason = "QUOTA_EXCEEDED",
       .metadata = {{"limit", absl::StrCat(limit, " ", what)},
                    {"value", value}},
       .retry_after = retry_after});
}

std::string Number(double value) { return absl::StrCat(value); }

}  // namespace

TokenBucket::TokenBucket(double rate, double burst, absl::Time now)
    : rate_(rate), burst_(burst), balance_(burst), last_(now) {}

void TokenBucket::SetLimits(double rate, double burst, absl::Time now) {
  Refill(now);
  // Nothing was counted without a rate.
  balance_ = rate_ > 0 ? std::min(balance_, burst) : burst;
  rate_ = rate;
  burst_ = burst;
}

void TokenBucket::Refill(absl::Time now) {
  if (now > last_) {
    const double seconds = absl::ToDoubleSeconds(now - last_);
    balance_ = std::min(burst_, balance_ + rate_ * seconds);
  }
  last_ = now;
}

absl::Duration TokenBucket::WaitFor(double amount, absl::Time now) {
  Refill(now);
  if (balance_ >= amount) return absl::ZeroDuration();
  return std::min(kLongestWait, absl::Seconds((amount - balance_) / rate_));
}

void TokenBucket::Take(double amount, absl::Time now) {
  Refill(now);
  balance_ -= amount;
}

Quota::Quota(const QuotaLimits& limits, absl::Time now)
    : limits_(limits),
      requests_(limits.requests_per_second, RequestBurst(limits), now),
      tokens_(limits.tokens_per_second, TokenBurst(limits), now) {}

void Quota::SetLimits(const QuotaLimits& limits, absl::Time now) {
  MutexLock lock(&mutex_);
  requests_.SetLimits(limits.requests_per_second, RequestBurst(limits), now);
  tokens_.SetLimits(limits.tokens_per_second, TokenBurst(limits), now);
  limits_ = limits;
}

absl::Status Quota::Begin(absl::Time now) {
  MutexLock lock(&mutex_);
  if (limits_.concurrent_calls > 0 && running_ >= limits_.concurrent_calls) {
    return Exceeded("calls at a time", absl::StrCat(limits_.concurrent_calls),
                    absl::StrCat(running_), kPlaceRetry);
  }
  if (limits_.tokens_per_second > 0) {
    // Of one token, that a balance of exactly 0 counts as used up.
    const absl::Duration wait = tokens_.WaitFor(1, now);
    if (wait > absl::ZeroDuration()) {
      return Exceeded("tokens per second", Number(limits_.tokens_per_second),
                      absl::StrCat(std::ceil(1 - tokens_.balance()), " owed"),
                      wait);
    }
  }
  if (limits_.requests_per_second > 0) {
    const absl::Duration wait = requests_.WaitFor(1, now);
    if (wait > absl::ZeroDuration()) {
      return Exceeded("calls per second", Number(limits_.requests_per_second),
                      absl::StrCat("a call more than ",
                                   Number(RequestBurst(limits_)), " at once"),
                      wait);
    }
    requests_.Take(1, now);
  }
  ++running_;
  return absl::OkStatus();
}

void Quota::End(int64_t tokens, absl::Time now) {
  MutexLock lock(&mutex_);
  --running_;
  if (limits_.tokens_per_second > 0) {
    tokens_.Take(static_cast<double>(tokens), now);
  }
}

int64_t Quota::running() const {
  MutexLock lock(&mutex_);
  return running_;
}

}  // namespace pot
