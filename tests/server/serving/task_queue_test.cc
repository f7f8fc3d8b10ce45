#include "server/serving/task_queue.h"

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "tests/server/serving/serving_testing.h"

namespace pot {
namespace {

class WaitingTask : public ScheduledTask {
 public:
  WaitingTask(int64_t tokens, absl::Time deadline,
              std::shared_ptr<std::atomic<bool>> cancelled)
      : ScheduledTask(absl::UnixEpoch(), deadline, std::move(cancelled),
                      std::make_shared<ModelMetrics>()),
        tokens_(tokens) {}
  int64_t queued_tokens() const override { return tokens_; }
  int64_t live_sequences() const override { return 1; }
  int64_t kv_bytes() const override { return 0; }
  absl::Status Admit(InferenceEngine*, PrefixCache*) override {
    return absl::OkStatus();
  }
  absl::Duration LeastTime(const CompletionPredictor&, PrefixCache*,
                           bool) const override {
    return absl::ZeroDuration();
  }
  void Plan(RoundPlan*) override {}
  void Compute(int, absl::Span<const float>) override {}
  absl::Status Deliver(int, absl::Time) override { return absl::OkStatus(); }
  bool complete() const override { return false; }

 protected:
  void OnEnd(const absl::Status&, const TaskTimings&) override {}

 private:
  const int64_t tokens_;
};

std::unique_ptr<ScheduledTask> NewTask(
    int64_t tokens, absl::Time deadline = absl::InfiniteFuture(),
    std::shared_ptr<std::atomic<bool>> cancelled = nullptr) {
  return std::make_unique<WaitingTask>(tokens, deadline, std::move(cancelled));
}

TEST(TaskQueueTest, FirstInFirstOutAndCounted) {
  TaskQueue queue(3, 100, absl::Seconds(1));
  EXPECT_TRUE(queue.empty());
  for (int64_t tokens : {5, 6, 7}) {
    auto task = NewTask(tokens);
    ASSERT_TRUE(queue.Push(&task).ok());
    EXPECT_EQ(task, nullptr);
  }
  EXPECT_EQ(queue.size(), 3);
  EXPECT_EQ(queue.tokens(), 18);
  EXPECT_EQ(queue.front()->queued_tokens(), 5);
  EXPECT_EQ(queue.PopFront()->queued_tokens(), 5);
  EXPECT_EQ(queue.front()->queued_tokens(), 6);
  EXPECT_EQ(queue.tokens(), 13);
  EXPECT_EQ(queue.TakeAll().size(), 2);
  EXPECT_EQ(queue.tokens(), 0);
  EXPECT_TRUE(queue.empty());
}

TEST(TaskQueueTest, RefusedTasksStayWithTheCaller) {
  TaskQueue queue(2, 10, absl::Seconds(1));
  auto task = NewTask(11);
  absl::Status status = queue.Push(&task);
  EXPECT_EQ(ReasonOf(status), "QUEUED_TOKENS");
  EXPECT_FALSE(GetDetails(status)->retry_after.has_value());
  ASSERT_NE(task, nullptr);

  task = NewTask(10);
  ASSERT_TRUE(queue.Push(&task).ok());
  task = NewTask(1);
  status = queue.Push(&task);
  EXPECT_EQ(ReasonOf(status), "QUEUED_TOKENS");
  EXPECT_EQ(GetDetails(status)->retry_after, absl::Seconds(1));
  ASSERT_NE(task, nullptr);

  task = NewTask(0);
  ASSERT_TRUE(queue.Push(&task).ok());
  task = NewTask(0);
  EXPECT_EQ(ReasonOf(queue.Push(&task)), "QUEUE_FULL");
  ASSERT_NE(task, nullptr);
  EXPECT_EQ(queue.size(), 2);
}

TEST(TaskQueueTest, RefusesWhatWouldWaitTooLong) {
  TaskQueue queue(1000, 1000, absl::Seconds(1), absl::Seconds(10));
  absl::Time now = absl::FromUnixSeconds(1000);
  const auto push = [&] {
    auto task = NewTask(1);
    return queue.Push(&task);
  };
  // Nothing is known of the pace.
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(push().ok());
  // One leaves every second, but those that leave in pairs.
  for (int64_t i = 0; i < QueuePace::kMinDepartures + 1; ++i) {
    now += absl::Seconds(i % 2 == 0 ? 2 : 0);
    queue.PopFront();
    queue.RecordDeparture(now);
  }
  const absl::Status status = push();
  EXPECT_EQ(ReasonOf(status), "QUEUE_FULL");
  const auto details = GetDetails(status);
  EXPECT_EQ(details->metadata.at("limit"), "10000");
  EXPECT_EQ(details->metadata.at("value"), absl::StrCat(1000 * queue.size()));
  EXPECT_EQ(details->retry_after, absl::Seconds(queue.size() - 10));
  while (queue.size() > 10) queue.PopFront();
  EXPECT_TRUE(push().ok());
  EXPECT_EQ(ReasonOf(push()), "QUEUE_FULL");
}

TEST(QueuePaceTest, IsOfDeparturesThatOthersWaitedFor) {
  QueuePace pace;
  absl::Time now = absl::FromUnixSeconds(1000);
  const auto depart = [&](double seconds, bool others_wait) {
    now += absl::Seconds(seconds);
    pace.OnDeparture(now, others_wait);
  };
  depart(0, true);
  for (int64_t i = 0; i < QueuePace::kMinDepartures - 1; ++i) depart(0.5, true);
  EXPECT_EQ(pace.TimeFor(4), absl::ZeroDuration());
  depart(0.5, false);
  EXPECT_EQ(pace.TimeFor(4), absl::Seconds(2));
  // The queue was empty for an hour.
  depart(3600, true);
  EXPECT_EQ(pace.TimeFor(4), absl::Seconds(2));
  // Only the last ones count.
  for (int64_t i = 0; i < QueuePace::kDepartures; ++i) depart(0.25, true);
  EXPECT_EQ(pace.TimeFor(4), absl::Seconds(1));
  // A clock that is set back.
  depart(-1000, true);
  EXPECT_GE(pace.TimeFor(4), absl::ZeroDuration());
  EXPECT_LE(pace.TimeFor(4), absl::Seconds(1));
}

TEST(TaskQueueTest, DeadTasksAreTakenOutOfTheMiddle) {
  const absl::Time now = absl::FromUnixSeconds(1000);
  const auto cancelled = std::make_shared<std::atomic<bool>>(false);
  TaskQueue queue(10, 100, absl::Seconds(1));
  EXPECT_EQ(queue.NearestDeadline(), absl::InfiniteFuture());
  std::vector<std::unique_ptr<ScheduledTask>> tasks;
  tasks.push_back(NewTask(1));
  tasks.push_back(NewTask(2, now + absl::Seconds(1)));
  tasks.push_back(NewTask(4, now + absl::Seconds(2), cancelled));
  tasks.push_back(NewTask(8));
  for (auto& task : tasks) ASSERT_TRUE(queue.Push(&task).ok());
  EXPECT_EQ(queue.NearestDeadline(), now + absl::Seconds(1));
  EXPECT_TRUE(queue.TakeDead(now).empty());
  auto dead = queue.TakeDead(now + absl::Seconds(1));
  ASSERT_EQ(dead.size(), 1);
  EXPECT_EQ(dead[0]->queued_tokens(), 2);
  cancelled->store(true);
  dead = queue.TakeDead(now);
  ASSERT_EQ(dead.size(), 1);
  EXPECT_EQ(dead[0]->queued_tokens(), 4);
  EXPECT_EQ(queue.tokens(), 9);
  EXPECT_EQ(queue.PopFront()->queued_tokens(), 1);
  EXPECT_EQ(queue.PopFront()->queued_tokens(), 8);
}

}  // namespace
}  // namespace pot
