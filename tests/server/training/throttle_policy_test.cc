#include "server/training/throttle_policy.h"

#include "gtest/gtest.h"

namespace pot {
namespace {

TEST(LatencyHistogramTest, PercentilesAreAtMostACellTooHigh) {
  LatencyHistogram histogram;
  for (int i = 1; i <= 1000; ++i) histogram.Record(absl::Milliseconds(i));
  histogram.Record(-absl::Seconds(1));  // a clock that was set back
  const LatencyHistogram::Counts counts = histogram.Read();
  EXPECT_EQ(TotalCount(counts), 1001);
  // A cell's borders are a factor of 2^(1/8) = 1.0905 apart.
  for (const double share : {0.1, 0.5, 0.99}) {
    const double milliseconds =
        absl::ToDoubleMilliseconds(PercentileOf(counts, share));
    EXPECT_GE(milliseconds, 1000 * share - 1);
    EXPECT_LE(milliseconds, 1000 * share * 1.0906 + 1);
  }
  histogram.Record(absl::Hours(10));
  EXPECT_GT(PercentileOf(histogram.Read(), 1), absl::Seconds(50));
}

class ThrottlePolicyTest : public ::testing::Test {
 protected:
  ThrottlePolicy Policy(absl::Duration target) {
    ThrottleOptions options;
    options.target = target;
    return ThrottlePolicy(&latencies_, options, [this] { return now_; });
  }
  // A second with `tokens` tokens of this latency.
  double AfterSecond(ThrottlePolicy* policy, int tokens,
                     absl::Duration latency) {
    for (int i = 0; i < tokens; ++i) latencies_.Record(latency);
    now_ += absl::Seconds(1);
    return policy->DutyRatio();
  }

  LatencyHistogram latencies_;
  absl::Time now_ = absl::FromUnixSeconds(1800000000);
};

TEST_F(ThrottlePolicyTest, LowersWhileTheTargetIsBreachedAndRaisesAfter) {
  ThrottlePolicy policy = Policy(absl::Milliseconds(20));
  EXPECT_EQ(AfterSecond(&policy, 100, absl::Milliseconds(5)), 1);
  EXPECT_EQ(AfterSecond(&policy, 100, absl::Milliseconds(40)), 0.5);
  // Nothing changes within an interval, whoever asks.
  now_ += absl::Milliseconds(500);
  EXPECT_EQ(policy.DutyRatio(), 0.5);
  now_ -= absl::Milliseconds(500);
  EXPECT_EQ(AfterSecond(&policy, 100, absl::Milliseconds(40)), 0.25);
  for (int i = 0; i < 10; ++i) {
    EXPECT_GE(AfterSecond(&policy, 100, absl::Milliseconds(40)), 0.05);
  }
  EXPECT_EQ(policy.DutyRatio(), 0.05);
  // The window of five seconds has to pass first.
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(AfterSecond(&policy, 100, absl::Milliseconds(5)), 0.05) << i;
  }
  EXPECT_DOUBLE_EQ(AfterSecond(&policy, 100, absl::Milliseconds(5)), 0.0625);
  EXPECT_DOUBLE_EQ(AfterSecond(&policy, 0, {}), 0.078125);
  // Nobody asked for a minute: 1.25^60 is far beyond 1.
  now_ += absl::Minutes(1);
  EXPECT_EQ(policy.DutyRatio(), 1);
}

TEST_F(ThrottlePolicyTest, OneInAHundredIsNotTheNinetyNinthPercentile) {
  ThrottlePolicy policy = Policy(absl::Milliseconds(20));
  for (int i = 0; i < 99; ++i) latencies_.Record(absl::Milliseconds(5));
  EXPECT_EQ(AfterSecond(&policy, 1, absl::Seconds(1)), 1);
  EXPECT_EQ(AfterSecond(&policy, 2, absl::Seconds(1)), 0.5);
}

TEST_F(ThrottlePolicyTest, FewTokensProveNothing) {
  ThrottlePolicy policy = Policy(absl::Milliseconds(20));
  EXPECT_EQ(AfterSecond(&policy, 4, absl::Seconds(1)), 1);
  EXPECT_EQ(AfterSecond(&policy, 1, absl::Seconds(1)), 0.5);
}

TEST_F(ThrottlePolicyTest, WithoutATargetAnyTokenCounts) {
  ThrottlePolicy policy = Policy(absl::ZeroDuration());
  EXPECT_EQ(AfterSecond(&policy, 0, {}), 1);
  EXPECT_EQ(AfterSecond(&policy, 1, absl::Milliseconds(1)), 0.5);
}

}  // namespace
}  // namespace pot
