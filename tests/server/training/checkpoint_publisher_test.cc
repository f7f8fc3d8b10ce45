#include "server/training/checkpoint_publisher.h"

#include "tests/server/training/driver_testing.h"

namespace pot {
namespace {

class CheckpointPublisherTest : public DriverTest {
 protected:
  PublishOrder Order() {
    PublishOrder order;
    order.job_id = "qat-1";
    order.checkpoint_directory = MakeCheckpoint("pot4");
    order.model = "tiny";
    order.alias = "default";
    order.actor = "alice";
    return order;
  }
};

TEST_F(CheckpointPublisherTest, LoadsBesideAndMovesTheAliasOnce) {
  CheckpointPublisher publisher(repository_.get());
  const PublishOrder order = Order();
  const auto pinned = *repository_->Acquire({.name = "tiny"});
  const auto published = publisher.Publish(order);
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_EQ(published->identity.version, 2);
  EXPECT_EQ(published->identity.sha256,
            ReadManifest(order.checkpoint_directory)->digest);
  EXPECT_EQ(pinned->identity.version, 1);
  EXPECT_EQ((*repository_->Acquire({.name = "tiny"}))->identity.version, 2);
  EXPECT_EQ(repository_->Get({.name = "tiny", .version = 1})->state,
            ModelVersionState::kAvailable);
  const AliasChange change = History().front();
  EXPECT_EQ(change.from_version, 1);
  EXPECT_EQ(change.to_version, 2);
  EXPECT_EQ(change.cause, AliasChangeCause::kPublish);
  EXPECT_EQ(change.actor, "alice");
  EXPECT_EQ(change.comment, "qat job qat-1");

  // Again, also after somebody has moved the alias back: nothing happens.
  EXPECT_EQ(publisher.Publish(order)->identity.version, 2);
  MoveAlias(1);
  const auto again = publisher.Publish(order);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->identity.version, 2);
  EXPECT_EQ(again->alias_change->sequence, change.sequence);
  EXPECT_EQ(Default(), 1);
  EXPECT_EQ(repository_->List("tiny")->size(), 2);
}

TEST_F(CheckpointPublisherTest, GoesOnAfterACrashBetweenItsSteps) {
  // Registered, but neither loaded nor aliased.
  PublishOrder order = Order();
  order.alias = "";
  CheckpointPublisher publisher(repository_.get());
  const auto registered = publisher.Publish(order);
  ASSERT_TRUE(registered.ok()) << registered.status();
  EXPECT_FALSE(registered->alias_change.has_value());
  EXPECT_EQ(Default(), 1);
  ASSERT_TRUE(
      repository_
          ->Unload({.name = "tiny", .version = 2}, absl::InfiniteFuture())
          .ok());
  order.alias = "default";
  order.comment = "by hand";
  EXPECT_EQ(publisher.Publish(order)->identity.version, 2);
  EXPECT_EQ(Default(), 2);
  EXPECT_EQ(History().front().comment, "qat job qat-1: by hand");
  EXPECT_EQ(repository_->List("tiny")->size(), 2);
}

TEST_F(CheckpointPublisherTest, ANewModelAndTheAliasOfAnother) {
  CheckpointPublisher publisher(repository_.get());
  PublishOrder order = Order();
  order.model = "fresh";
  EXPECT_EQ(publisher.Publish(order)->identity.version, 1);
  EXPECT_EQ((*repository_->Acquire({.name = "fresh", .alias = "default"}))
                ->identity.name,
            "fresh");
}

TEST_F(CheckpointPublisherTest, WhoeverMovedTheAliasMeanwhileWins) {
  // The time is asked for right before the alias moves.
  CheckpointPublisher publisher(repository_.get(), [this] {
    EXPECT_TRUE(
        repository_
            ->Load({.name = "tiny", .version = 1}, absl::InfiniteFuture())
            .ok());
    MoveAlias(2);
    return absl::UnixEpoch();
  });
  const auto published = publisher.Publish(Order());
  EXPECT_TRUE(absl::IsAborted(published.status())) << published.status();
  EXPECT_EQ(Reason(published.status()), "ALIAS_MISMATCH");
  EXPECT_EQ(History().front().actor, "operator");
  EXPECT_EQ(repository_->Get({.name = "tiny", .version = 2})->state,
            ModelVersionState::kAvailable);
}

TEST_F(CheckpointPublisherTest, PublishesNothingThatIsNotWhole) {
  CheckpointPublisher publisher(repository_.get());
  PublishOrder order = Order();
  FlipBit(order.checkpoint_directory + "/model.pot.safetensors", 3000);
  const auto published = publisher.Publish(order);
  EXPECT_TRUE(absl::IsDataLoss(published.status())) << published.status();
  EXPECT_EQ(repository_->List("tiny")->size(), 1);
  EXPECT_TRUE(std::filesystem::is_empty(files_.root() + "/.staging"));
  EXPECT_EQ(Default(), 1);
}

}  // namespace
}  // namespace pot
