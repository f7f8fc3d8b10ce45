// More requests than slots: who waits, for how long, and who never does.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/serving/generation_scheduler.h"
#include "tests/server/serving/serving_testing.h"

namespace pot {
namespace {

using testing::ElementsAre;

// What a request saw, in rounds.
struct Request {
  std::shared_ptr<RecordingSink> sink = std::make_shared<RecordingSink>();
  int64_t prompt_tokens = 0;
  int64_t new_tokens = 0;
  int sequences = 1;
  int submitted = 0;
  int first_token = 0;
  int last_token = 0;
};

class SchedulerFairnessTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(TinyModel(), nullptr); }

  void Begin(SchedulerOptions options, int64_t kv_bytes = int64_t{64} << 20) {
    options.now = [this] { return clock_.Now(); };
    engine_.emplace(1, kv_bytes);
    scheduler_.emplace(&*engine_, std::move(options));
  }

  Request* Submit(int64_t prompt_tokens, int64_t new_tokens, int sequences = 1,
                  std::shared_ptr<const LoadedModel> model = TinyModel()) {
    auto request = std::make_unique<Request>();
    request->prompt_tokens = prompt_tokens;
    request->new_tokens = new_tokens;
    request->sequences = sequences;
    request->submitted = round_;
    const auto first = static_cast<int32_t>(requests_.size() * 3 % 250);
    std::vector<int32_t> prompt(prompt_tokens);
    std::iota(prompt.begin(), prompt.end(), first % 200);
    auto task = MakeTask(request->sink, std::move(prompt), new_tokens);
    task->model = std::move(model);
    task->n = task->best_of = sequences;
    const absl::Status status = scheduler_->Submit(std::move(task));
    EXPECT_TRUE(status.ok()) << status;
    requests_.push_back(std::move(request));
    return requests_.back().get();
  }

  // One round, after which each request that has begun and has not ended has
  // got one token for each of its sequences.
  bool RunRound() {
    ++round_;
    std::vector<size_t> before;
    for (const auto& request : requests_) {
      before.push_back(request->sink->events.size());
    }
    const bool worked = scheduler_->RunOnce();
    for (size_t i = 0; i < requests_.size(); ++i) {
      Request& request = *requests_[i];
      const size_t all = request.new_tokens * request.sequences;
      const size_t now = request.sink->events.size();
      if (before[i] > 0 && before[i] < all) {
        EXPECT_EQ(now, before[i] + request.sequences)
            << "request " << i << " was left out of round " << round_;
      }
      if (before[i] == 0 && now > 0) request.first_token = round_;
      if (before[i] < all && now == all) request.last_token = round_;
    }
    EXPECT_LE(scheduler_->stats().running_sequences, 4);
    return worked;
  }
  void RunAll() {
    while (RunRound()) {
    }
  }

  void ExpectAllAnsweredInOrder() {
    int last = 0;
    for (size_t i = 0; i < requests_.size(); ++i) {
      const Request& request = *requests_[i];
      EXPECT_TRUE(request.sink->status.ok()) << i << request.sink->status;
      EXPECT_EQ(request.sink->done, 1);
      EXPECT_GE(request.first_token, last) << i << " overtook another";
      last = request.first_token;
    }
  }

  FakeClock clock_;
  std::optional<InferenceEngine> engine_;
  std::optional<GenerationScheduler> scheduler_;
  std::vector<std::unique_ptr<Request>> requests_;
  int round_ = 0;
};

SchedulerOptions FourSlots() {
  SchedulerOptions options;
  options.max_running_sequences = 4;
  options.prefill_chunk_tokens = 8;
  return options;
}

TEST_F(SchedulerFairnessTest, FirstComeFirstServedAndStreamsGetEveryStep) {
  for (const bool cached : {false, true}) {
    SCOPED_TRACE(cached);
    requests_.clear();
    round_ = 0;
    SchedulerOptions options = FourSlots();
    options.prefix_cache_bytes = cached ? int64_t{64} << 20 : 0;
    Begin(std::move(options));
    // Ten at once, then one or two every round: far more than four slots take.
    for (int i = 0; i < 10; ++i) Submit(1 + i * 7 % 40, 1 + i * 5 % 11);
    for (int i = 0; i < 60; ++i) {
      Submit(1 + i * 11 % 50, 1 + i * 3 % 9);
      if (i % 3 == 0) Submit(2, 2);
      RunRound();
    }
    RunAll();
    ExpectAllAnsweredInOrder();
    // Nobody waits longer than all before take, were each alone: a round per
    // two tokens of the prompt and one per token.
    int before = 0;
    for (const auto& request : requests_) {
      before += (request->prompt_tokens + 1) / 2 + request->new_tokens;
      EXPECT_LE(request->first_token, request->submitted + before);
    }
  }
}

TEST_F(SchedulerFairnessTest, ManySequencesAreNotStarvedByFew) {
  Begin(FourSlots());
  for (int i = 0; i < 4; ++i) Submit(2, 3 + i);
  RunRound();
  // Needs all slots; single ones keep coming and would fit before.
  const Request* wide = Submit(5, 4, /*sequences=*/4);
  while (wide->sink->events.empty() && round_ < 100) {
    Submit(3, 2);
    RunRound();
  }
  // The slots were freed one by one and kept for it.
  EXPECT_EQ(wide->first_token, 7);
  RunAll();
  ExpectAllAnsweredInOrder();
}

TEST_F(SchedulerFairnessTest, MuchMemoryIsNotStarvedByLittle) {
  // Four blocks of 16 positions: the whole context of one sequence.
  const int64_t bytes =
      KvCache::BytesFor(TinyModel()->config(), TinyModel()->kv_type, 64);
  SchedulerOptions options = FourSlots();
  options.prefix_cache_bytes = bytes;
  Begin(std::move(options), bytes);
  for (int i = 0; i < 3; ++i) Submit(17, 3);
  RunRound();
  const Request* large = Submit(50, 14);
  while (large->sink->events.empty() && round_ < 100) {
    Submit(3, 2);
    RunRound();
  }
  EXPECT_LT(round_, 100);
  RunAll();
  ExpectAllAnsweredInOrder();
}

TEST_F(SchedulerFairnessTest, OldestPromptGetsTheChunk) {
  SchedulerOptions options = FourSlots();
  options.prefill_chunk_tokens = 2;
  Begin(std::move(options));
  const Request* first = Submit(5, 2);   // 2 + 2 + 1
  const Request* second = Submit(2, 2);  // 1 + 1
  const Request* third = Submit(2, 2);   // 1 + 1
  const Request* fourth = Submit(1, 2);  // what a round has left
  RunAll();
  EXPECT_THAT((std::vector<int>{first->first_token, second->first_token,
                                third->first_token, fourth->first_token}),
              ElementsAre(3, 4, 5, 5));
}

TEST_F(SchedulerFairnessTest, EveryModelGetsAStepInEveryRound) {
  SchedulerOptions options = FourSlots();
  options.prefill_chunk_tokens = 2;
  Begin(std::move(options));
  const Request* one = Submit(10, 3);
  const Request* other = Submit(4, 3, 1, OtherTinyModel());
  RunAll();
  // As if alone: five and two rounds of prompt, though the other model decodes
  // from its second on.
  EXPECT_EQ(one->first_token, 5);
  EXPECT_EQ(other->first_token, 2);
  EXPECT_EQ(other->last_token, 4);
  EXPECT_EQ(one->last_token, 7);
}

}  // namespace
}  // namespace pot
