#include "server/security/quota.h"

#include <string>

#include "gtest/gtest.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

// No test sleeps: time is what they say.
const absl::Time kStart = absl::FromUnixSeconds(1'000'000);

absl::Time At(double seconds) { return kStart + absl::Seconds(seconds); }

absl::Duration RetryAfter(const absl::Status& status) {
  return GetDetails(status)->retry_after.value_or(absl::InfiniteDuration());
}

std::string Reason(const absl::Status& status) {
  return GetDetails(status).value_or(ErrorDetails()).reason;
}

TEST(TokenBucketTest, RefillsAtItsRateUpToItsBurst) {
  TokenBucket bucket(/*rate=*/2, /*burst=*/3, At(0));
  bucket.Take(3, At(0));
  EXPECT_EQ(bucket.WaitFor(1, At(0)), absl::Seconds(0.5));
  EXPECT_EQ(bucket.WaitFor(1, At(0.25)), absl::Seconds(0.25));
  EXPECT_EQ(bucket.WaitFor(1, At(0.5)), absl::ZeroDuration());
  EXPECT_EQ(bucket.WaitFor(3, At(100)), absl::ZeroDuration());
  EXPECT_EQ(bucket.balance(), 3);
}

TEST(TokenBucketTest, AClockThatGoesBackAddsNothing) {
  TokenBucket bucket(1, 1, At(10));
  bucket.Take(1, At(10));
  EXPECT_EQ(bucket.WaitFor(1, At(5)), absl::Seconds(1));
  EXPECT_EQ(bucket.WaitFor(1, At(5.5)), absl::Seconds(0.5));
}

TEST(QuotaTest, WithoutLimitsEverythingGoes) {
  Quota quota(QuotaLimits{}, At(0));
  for (int i = 0; i < 10000; ++i) {
    ASSERT_TRUE(quota.Begin(At(0)).ok());
    quota.End(1 << 30, At(0));
  }
}

TEST(QuotaTest, RequestsComeAtTheRateAfterTheBurst) {
  QuotaLimits limits;
  limits.requests_per_second = 10;
  limits.request_burst = 4;
  Quota quota(limits, At(0));
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(quota.Begin(At(0)).ok()) << i;
  const absl::Status refused = quota.Begin(At(0));
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Reason(refused), "QUOTA_EXCEEDED");
  EXPECT_EQ(RetryAfter(refused), absl::Seconds(0.1));
  EXPECT_EQ(GetDetails(refused)->metadata.at("limit"), "10 calls per second");
  EXPECT_EQ(GetDetails(refused)->metadata.count("value"), 1u);
  EXPECT_FALSE(quota.Begin(At(0.05)).ok());
  // Exactly when it was told to come back, and a refusal costs nothing.
  EXPECT_TRUE(quota.Begin(At(0.1)).ok());
  EXPECT_FALSE(quota.Begin(At(0.1)).ok());
  // In ten seconds 100 calls come through and the 101st does not.
  int admitted = 0;
  for (int i = 1; i <= 2000; ++i) {
    if (quota.Begin(At(0.1 + i * 0.005)).ok()) ++admitted;
  }
  EXPECT_EQ(admitted, 100);
}

TEST(QuotaTest, ARateBelowOneStillAllowsACall) {
  QuotaLimits limits;
  limits.requests_per_second = 0.1;
  Quota quota(limits, At(0));
  EXPECT_TRUE(quota.Begin(At(0)).ok());
  EXPECT_EQ(RetryAfter(quota.Begin(At(0))), absl::Seconds(10));
  EXPECT_TRUE(quota.Begin(At(10)).ok());
}

TEST(QuotaTest, PlacesComeBackWhenCallsEnd) {
  QuotaLimits limits;
  limits.concurrent_calls = 2;
  Quota quota(limits, At(0));
  EXPECT_TRUE(quota.Begin(At(0)).ok());
  EXPECT_TRUE(quota.Begin(At(0)).ok());
  const absl::Status refused = quota.Begin(At(0));
  EXPECT_EQ(Reason(refused), "QUOTA_EXCEEDED");
  EXPECT_EQ(GetDetails(refused)->metadata.at("limit"), "2 calls at a time");
  EXPECT_EQ(GetDetails(refused)->metadata.at("value"), "2");
  EXPECT_EQ(RetryAfter(refused), absl::Seconds(1));
  quota.End(0, At(0));
  EXPECT_EQ(quota.running(), 1);
  EXPECT_TRUE(quota.Begin(At(0)).ok());
}

TEST(QuotaTest, TokensAreOwedUntilTheRatePaid) {
  QuotaLimits limits;
  limits.tokens_per_second = 100;
  limits.token_burst = 200;
  Quota quota(limits, At(0));
  EXPECT_TRUE(quota.Begin(At(0)).ok());
  quota.End(500, At(0));  // 300 owed
  const absl::Status refused = quota.Begin(At(0));
  EXPECT_EQ(Reason(refused), "QUOTA_EXCEEDED");
  EXPECT_EQ(RetryAfter(refused), absl::Seconds(3.01));
  EXPECT_EQ(GetDetails(refused)->metadata.at("value"), "301 owed");
  EXPECT_FALSE(quota.Begin(At(3)).ok());
  EXPECT_TRUE(quota.Begin(At(3.01)).ok());
}

TEST(QuotaTest, TheWaitForAHugeDebtIsBounded) {
  QuotaLimits limits;
  limits.tokens_per_second = 1e-3;
  Quota quota(limits, At(0));
  EXPECT_TRUE(quota.Begin(At(0)).ok());
  quota.End(int64_t{1} << 62, At(0));
  EXPECT_EQ(RetryAfter(quota.Begin(At(0))), absl::Hours(24));
}

TEST(QuotaTest, OtherLimitsKeepWhatIsInUseAndOwed) {
  QuotaLimits limits;
  limits.concurrent_calls = 2;
  limits.tokens_per_second = 10;
  Quota quota(limits, At(0));
  EXPECT_TRUE(quota.Begin(At(0)).ok());
  EXPECT_TRUE(quota.Begin(At(0)).ok());
  quota.End(110, At(0));  // 10 owed
  limits.concurrent_calls = 5;
  quota.SetLimits(limits, At(0));
  EXPECT_EQ(quota.running(), 1);
  EXPECT_EQ(Reason(quota.Begin(At(0.5))), "QUOTA_EXCEEDED");
  EXPECT_TRUE(quota.Begin(At(1.1)).ok());
  quota.SetLimits(QuotaLimits{}, At(2));
  EXPECT_TRUE(quota.Begin(At(2)).ok());
}

}  // namespace
}  // namespace pot
