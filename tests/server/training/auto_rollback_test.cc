#include "server/training/auto_rollback.h"

#include "gmock/gmock.h"
#include "server/training/checkpoint_publisher.h"
#include "tests/server/training/driver_testing.h"

namespace pot {
namespace {

using ::testing::HasSubstr;

class AutoRollbackTest : public DriverTest {
 protected:
  void SetUp() override {
    DriverTest::SetUp();
    PublishOrder order;
    order.job_id = "qat-1";
    order.checkpoint_directory = MakeCheckpoint("pot4");
    order.model = "tiny";
    order.alias = "default";
    CheckpointPublisher publisher(repository_.get());
    ASSERT_TRUE(publisher.Publish(order).ok());
    ASSERT_EQ(Default(), 2);
    probation_.job_id = "qat-1";
    probation_.model = "tiny";
    probation_.alias = "default";
    probation_.version = 2;
    probation_.end = now_ + absl::Minutes(5);
    probation_.max_error_ratio = 0.05;
    probation_.min_calls = 20;
    rollback_ = std::make_unique<AutoRollback>(
        repository_.get(), [this] { ++breaches_; }, [this] { return now_; });
    rollback_->Watch(probation_);
  }
  void Calls(int count, const absl::Status& status, int64_t version = 2) {
    for (int i = 0; i < count; ++i) {
      rollback_->OnCallEnd("tiny", version, status);
    }
  }

  absl::Time now_ = absl::FromUnixSeconds(1800000000);
  int breaches_ = 0;
  std::unique_ptr<AutoRollback> rollback_;
  Probation probation_;
};

TEST_F(AutoRollbackTest, GoesBackOnceWhenTooManyCallsFail) {
  Calls(18, absl::OkStatus());
  Calls(100, absl::InternalError("of another version"), 1);
  Calls(1, absl::InternalError("a bug"));
  EXPECT_TRUE(rollback_->Decide().empty());
  // 1 of 20 is not more than 0.05.
  Calls(1, absl::InvalidArgumentError("the caller's fault"));
  EXPECT_TRUE(rollback_->Decide().empty());
  Calls(1, absl::UnknownError("of 21"));
  EXPECT_EQ(breaches_, 1);
  const auto ends = rollback_->Decide();
  ASSERT_EQ(ends.size(), 1);
  EXPECT_TRUE(ends[0].rolled_back) << ends[0].message;
  EXPECT_EQ(ends[0].probation.job_id, "qat-1");
  const AliasChange change = History().front();
  EXPECT_EQ(change.to_version, 1);
  EXPECT_EQ(change.cause, AliasChangeCause::kAutoRollback);
  EXPECT_EQ(change.time, now_);
  EXPECT_EQ(change.comment,
            "qat job qat-1: 2 of 21 calls of version 2 failed, more than a "
            "share of 0.05");
  // Whoever moves it there again knows better.
  MoveAlias(2);
  rollback_->Watch(probation_);
  Calls(100, absl::InternalError("a bug"));
  EXPECT_TRUE(rollback_->Decide().empty());
  EXPECT_EQ(Default(), 2);
  EXPECT_EQ(breaches_, 1);
}

TEST_F(AutoRollbackTest, OneLogitThatIsNotFiniteIsEnough) {
  Calls(1, WithDetails(absl::DataLossError("a NaN"),
                       {.reason = "NON_FINITE_LOGITS"}));
  const auto ends = rollback_->Decide();
  ASSERT_EQ(ends.size(), 1);
  EXPECT_TRUE(ends[0].rolled_back);
  EXPECT_THAT(History().front().comment, HasSubstr("not finite"));
  EXPECT_EQ(Default(), 1);
}

TEST_F(AutoRollbackTest, PassesWhenTheWindowIsOver) {
  Calls(19, absl::InternalError("too few to count"));
  now_ += absl::Minutes(5) + absl::Seconds(1);
  Calls(100, absl::InternalError("too late"));
  EXPECT_EQ(rollback_->running(), 1);
  const auto ends = rollback_->Decide();
  ASSERT_EQ(ends.size(), 1);
  EXPECT_FALSE(ends[0].rolled_back);
  EXPECT_EQ(ends[0].message, "");
  EXPECT_EQ(Default(), 2);
  EXPECT_EQ(rollback_->running(), 0);
}

TEST_F(AutoRollbackTest, AnAliasThatSomebodyMovedStays) {
  MoveAlias(1);
  Calls(100, absl::InternalError("a bug"));
  const auto ends = rollback_->Decide();
  ASSERT_EQ(ends.size(), 1);
  EXPECT_FALSE(ends[0].rolled_back);
  EXPECT_THAT(ends[0].message, HasSubstr("stays although"));
  EXPECT_EQ(History().front().actor, "operator");
}

TEST_F(AutoRollbackTest, TheVersionBeforeIsLoadedFirst) {
  ASSERT_TRUE(
      repository_
          ->Unload({.name = "tiny", .version = 1}, absl::InfiniteFuture())
          .ok());
  Calls(20, absl::DataLossError("corrupt"));
  EXPECT_TRUE(rollback_->Decide()[0].rolled_back);
  EXPECT_EQ((*repository_->Acquire({.name = "tiny"}))->identity.version, 1);
}

}  // namespace
}  // namespace pot
