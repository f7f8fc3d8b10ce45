// The scheduler with its own thread; meant to run under ThreadSanitizer too.
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/serving/generation_scheduler.h"
#include "tests/server/serving/serving_testing.h"

namespace pot {
namespace {

// Counts; any thread may look.
class CountingSink : public TokenSink {
 public:
  void OnPrompt(std::vector<SampledToken>) override {}
  void OnToken(TokenEvent event) override {
    tokens += static_cast<int64_t>(event.ids.size());
  }
  void OnDone(const absl::Status& status, const TaskUsage& usage,
              const TaskTimings&) override {
    MutexLock lock(&mutex_);
    ++done_;
    status_ = status;
    generated_ = usage.generated_tokens;
    changed_.NotifyAll();
  }
  bool ReadyForMore() const override { return ready; }

  absl::Status Wait() {
    MutexLock lock(&mutex_);
    while (done_ == 0) changed_.Wait(&mutex_);
    return status_;
  }
  int done() {
    MutexLock lock(&mutex_);
    return done_;
  }
  int64_t generated() {
    MutexLock lock(&mutex_);
    return generated_;
  }

  std::atomic<bool> ready = true;
  std::atomic<int64_t> tokens = 0;

 private:
  Mutex mutex_;
  CondVar changed_;
  int done_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t generated_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

class SchedulerThreadsTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(TinyModel(), nullptr); }

  InferenceEngine engine_{2, int64_t{4} << 20};
};

TEST_F(SchedulerThreadsTest, EveryTaskEndsOnceUnderLoad) {
  constexpr int kThreads = 4;
  constexpr int kTasksEach = 25;
  SchedulerOptions options;
  options.max_running_sequences = 8;
  options.prefill_chunk_tokens = 16;
  options.prefix_cache_bytes = int64_t{1} << 20;
  GenerationScheduler scheduler(&engine_, options);
  scheduler.Start();

  struct Entry {
    std::shared_ptr<CountingSink> sink;
    bool cancelled = false;
  };
  std::vector<std::vector<Entry>> entries(kThreads);
  std::atomic<int> scored = 0, score_tasks = 0;
  const auto submit = [&](int thread) {
    for (int i = 0; i < kTasksEach; ++i) {
      const int kind = (thread + i) % 5;
      auto sink = std::make_shared<CountingSink>();
      auto task = MakeTask(sink, std::vector<int32_t>(1 + (7 * i) % 40, i),
                           1 + (3 * i) % 12);
      if (kind == 1) task->model = OtherTinyModel();
      if (kind == 2) task->n = task->best_of = 3;
      const auto flag = task->cancelled;
      if (kind == 4) {
        auto score = std::make_unique<ScoreTask>();
        score->model = TinyModel();
        score->reference = OtherTinyModel();
        score->window.tokens = task->prompt;
        score->window.tokens.push_back(1);
        score->done = [&scored](absl::StatusOr<ScoreTask::Result> result) {
          EXPECT_TRUE(result.ok()) << result.status();
          ++scored;
        };
        ASSERT_TRUE(scheduler.Submit(std::move(score)).ok());
        ++score_tasks;
        continue;
      }
      if (kind == 3) sink->ready = i % 2 == 0;
      ASSERT_TRUE(scheduler.Submit(std::move(task)).ok());
      entries[thread].push_back({sink, kind == 0});
      if (kind == 0) {
        flag->store(true);
        scheduler.Wake();
      }
      if (!sink->ready) {
        sink->ready = true;
        scheduler.Wake();
      }
      const SchedulerStats stats = scheduler.stats();
      EXPECT_LE(stats.running_sequences, 8);
      EXPECT_LE(stats.parked_sequences, stats.running_sequences);
    }
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) threads.emplace_back(submit, t);
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(scheduler.FinishDrain(absl::InfiniteFuture()));

  EXPECT_EQ(scored, score_tasks);
  for (const auto& of_thread : entries) {
    for (const Entry& entry : of_thread) {
      EXPECT_EQ(entry.sink->done(), 1);
      const absl::Status status = entry.sink->Wait();
      if (!entry.cancelled) {
        EXPECT_TRUE(status.ok()) << status;
      } else if (!status.ok()) {  // it may have been quicker
        EXPECT_TRUE(absl::IsCancelled(status)) << status;
      }
      EXPECT_EQ(entry.sink->generated(), entry.sink->tokens);
    }
  }
  EXPECT_EQ(scheduler.stats().waiting_tasks, 0);
  EXPECT_EQ(scheduler.stats().running_sequences, 0);
  EXPECT_EQ(engine_.kv_budget()->used_bytes(),
            scheduler.stats().prefix_cache_bytes);
}

TEST_F(SchedulerThreadsTest, IdleThreadWakesForTheNearestDeadline) {
  GenerationScheduler scheduler(&engine_, {});
  scheduler.Start();
  auto parked = std::make_shared<CountingSink>();
  parked->ready = false;
  auto task = MakeTask(parked, {1, 2}, 5);
  task->deadline = absl::Now() + absl::Milliseconds(30);
  ASSERT_TRUE(scheduler.Submit(std::move(task)).ok());
  // Nobody calls Wake().
  EXPECT_TRUE(absl::IsDeadlineExceeded(parked->Wait()));
  EXPECT_EQ(parked->tokens, 0);
}

TEST_F(SchedulerThreadsTest, WakeSetsAParkedTaskGoing) {
  GenerationScheduler scheduler(&engine_, {});
  scheduler.Start();
  auto sink = std::make_shared<CountingSink>();
  sink->ready = false;
  ASSERT_TRUE(scheduler.Submit(MakeTask(sink, {1, 2}, 5)).ok());
  while (scheduler.stats().parked_sequences == 0) std::this_thread::yield();
  sink->ready = true;
  scheduler.Wake();
  EXPECT_TRUE(sink->Wait().ok());
  EXPECT_EQ(sink->tokens, 5);
}

TEST_F(SchedulerThreadsTest, DrainDeadlineEndsTheRest) {
  GenerationScheduler scheduler(&engine_, {});
  scheduler.Start();
  auto parked = std::make_shared<CountingSink>();
  parked->ready = false;
  ASSERT_TRUE(scheduler.Submit(MakeTask(parked, {1, 2}, 5)).ok());
  EXPECT_FALSE(scheduler.FinishDrain(absl::Now() + absl::Milliseconds(20)));
  EXPECT_EQ(parked->done(), 1);
  EXPECT_EQ(ReasonOf(parked->Wait()), "DRAINING");
}

TEST_F(SchedulerThreadsTest, DestructionMidStreamEndsEverything) {
  for (int round = 0; round < 5; ++round) {
    std::vector<std::shared_ptr<CountingSink>> sinks;
    {
      GenerationScheduler scheduler(&engine_, {});
      scheduler.Start();
      for (int i = 0; i < 6; ++i) {
        sinks.push_back(std::make_shared<CountingSink>());
        ASSERT_TRUE(scheduler.Submit(MakeTask(sinks.back(), {1, 2}, 60)).ok());
      }
      if (round % 2 == 0) {
        while (sinks[0]->tokens == 0) std::this_thread::yield();
      }
    }
    for (const auto& sink : sinks) EXPECT_EQ(sink->done(), 1);
    EXPECT_EQ(engine_.kv_budget()->used_bytes(), 0);
  }
}

}  // namespace
}  // namespace pot
