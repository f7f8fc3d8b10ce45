// Prompts that begin alike share blocks of the KV cache, and nobody can tell
// from the results.
#include <cstdint>
#include <memory>
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
using testing::IsEmpty;
using testing::SizeIs;

using Tokens = std::vector<int32_t>;

constexpr int64_t kPlenty = int64_t{64} << 20;

// Prompt number `family` has the same tokens up to where `length` cuts it,
// then `tail` more that are its own.
Tokens Prompt(int family, int64_t length, int64_t tail = 0) {
  Tokens tokens;
  for (int64_t i = 0; i < length; ++i) {
    tokens.push_back(static_cast<int32_t>((family * 53 + i * i * 7) % 299));
  }
  for (int64_t i = 0; i < tail; ++i) {
    tokens.push_back(static_cast<int32_t>((length * 31 + i * 11) % 299));
  }
  return tokens;
}

class PrefixSharingTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(TinyModel(), nullptr); }

  static int64_t KvBytes(int64_t positions) {
    return KvCache::BytesFor(TinyModel()->config(), TinyModel()->kv_type,
                             positions);
  }

  void Begin(int64_t prefix_cache_bytes, int64_t kv_bytes = kPlenty) {
    scheduler_.reset();
    engine_.emplace(2, kv_bytes);
    SchedulerOptions options;
    options.prefix_cache_bytes = prefix_cache_bytes;
    options.now = [this] { return clock_.Now(); };
    options.on_step = [this](const StepReport& report) {
      computed_ += report.chunk_tokens;
    };
    scheduler_.emplace(&*engine_, options);
  }

  void TearDown() override {
    scheduler_.reset();
    if (engine_.has_value()) {
      EXPECT_EQ(engine_->kv_budget()->used_bytes(), 0);
    }
  }

  static std::unique_ptr<GenerateTask> NewTask(
      const std::shared_ptr<RecordingSink>& sink, Tokens prompt,
      int64_t new_tokens, int n = 1) {
    auto task = MakeTask(sink, std::move(prompt), new_tokens);
    task->n = task->best_of = n;
    task->sampling.temperature = 0.8f;
    task->logprobs = 1;
    task->logits_checksums = true;
    return task;
  }
  std::shared_ptr<RecordingSink> Submit(Tokens prompt, int64_t new_tokens,
                                        int n = 1) {
    auto sink = std::make_shared<RecordingSink>();
    const absl::Status status =
        scheduler_->Submit(NewTask(sink, std::move(prompt), new_tokens, n));
    EXPECT_TRUE(status.ok()) << status;
    return sink;
  }
  void RunAll() {
    while (scheduler_->RunOnce()) {
      EXPECT_LE(used(), engine_->kv_budget()->capacity_bytes());
    }
  }
  std::shared_ptr<RecordingSink> Run(Tokens prompt, int64_t new_tokens,
                                     int n = 1) {
    auto sink = Submit(std::move(prompt), new_tokens, n);
    RunAll();
    return sink;
  }
  int64_t used() const { return engine_->kv_budget()->used_bytes(); }
  int64_t TakeComputed() { return std::exchange(computed_, 0); }

  FakeClock clock_;
  int64_t computed_ = 0;  // prompt tokens
  std::optional<InferenceEngine> engine_;
  std::optional<GenerationScheduler> scheduler_;
};

// Tokens, log-probabilities and checksums of the logits, bit by bit.
void ExpectSame(const RecordingSink& got, const RecordingSink& want) {
  ASSERT_EQ(got.done, 1);
  EXPECT_TRUE(got.status.ok()) << got.status;
  ASSERT_EQ(got.events.size(), want.events.size());
  for (size_t i = 0; i < got.events.size(); ++i) {
    const TokenEvent& a = got.events[i];
    const TokenEvent& b = want.events[i];
    EXPECT_EQ(a.index, b.index);
    EXPECT_EQ(a.ids, b.ids);
    EXPECT_EQ(a.text, b.text);
    EXPECT_EQ(a.logits_checksums, b.logits_checksums);
    ASSERT_EQ(a.logprobs.size(), b.logprobs.size());
    for (size_t k = 0; k < a.logprobs.size(); ++k) {
      EXPECT_EQ(a.logprobs[k].logprob, b.logprobs[k].logprob);
    }
  }
}

TEST_F(PrefixSharingTest, WarmAnswersAreThoseOfColdOnes) {
  struct Case {
    Tokens prompt;
    int n;
    int64_t cached;  // once 50 tokens of family 1 were computed
  };
  const Case cases[] = {{Prompt(1, 50), 1, 48},     {Prompt(1, 48), 1, 32},
                        {Prompt(1, 48), 3, 32},     {Prompt(1, 49), 4, 48},
                        {Prompt(1, 33, 9), 1, 32},  {Prompt(1, 31, 20), 2, 16},
                        {Prompt(1, 15, 20), 1, 0},  {Prompt(2, 50), 1, 0},
                        {Prompt(1, 16), 1, 0},      {Prompt(1, 17), 2, 16},
                        {Prompt(1, 32, 25), 16, 32}};
  std::vector<std::shared_ptr<RecordingSink>> cold;
  Begin(0);
  for (const Case& c : cases) {
    cold.push_back(Run(c.prompt, 7, c.n));
    EXPECT_EQ(cold.back()->usage.cached_prompt_tokens, 0);
  }
  EXPECT_EQ(used(), 0);
  for (size_t i = 0; i < std::size(cases); ++i) {
    SCOPED_TRACE(i);
    const Case& c = cases[i];
    const int64_t size = static_cast<int64_t>(c.prompt.size());
    Begin(kPlenty);
    Run(Prompt(1, 50), 3);
    EXPECT_EQ(used(), KvBytes(48));
    TakeComputed();
    const auto warm = Run(c.prompt, 7, c.n);
    ExpectSame(*warm, *cold[i]);
    EXPECT_EQ(warm->usage.prompt_tokens, size);
    EXPECT_EQ(warm->usage.cached_prompt_tokens, c.cached);
    EXPECT_EQ(TakeComputed(), size - c.cached);
    // Its own blocks are there now.
    const auto again = Run(c.prompt, 7, c.n);
    ExpectSame(*again, *cold[i]);
    EXPECT_EQ(again->usage.cached_prompt_tokens, (size - 1) / 16 * 16);
    EXPECT_EQ(used(), scheduler_->stats().prefix_cache_bytes);
  }
}

TEST_F(PrefixSharingTest, SequencesOfATaskShareThePrompt) {
  Begin(0);
  // 40 + 12 - 1 positions take four blocks, of which two are shared.
  const auto sink = Submit(Prompt(1, 40), 12, 5);
  scheduler_->RunOnce();
  EXPECT_EQ(used(), KvBytes(16) * (2 + 5 * 2));
  scheduler_->RunOnce();
  EXPECT_EQ(used(), KvBytes(16) * (2 + 5 * 2));
  RunAll();
  EXPECT_EQ(used(), 0);
  EXPECT_NE(sink->Ids(0), sink->Ids(1)) << "nothing but the prompt is shared";
}

TEST_F(PrefixSharingTest, PromptIsTakenOverWhileItsFirstReaderRuns) {
  Begin(kPlenty);
  const auto first = Submit(Prompt(1, 40), 20);
  scheduler_->RunOnce();
  EXPECT_EQ(used(), KvBytes(59));
  const auto second = Submit(Prompt(1, 32, 3), 20);  // 54 positions
  scheduler_->RunOnce();
  EXPECT_EQ(used(), KvBytes(59) + KvBytes(54 - 32));
  EXPECT_EQ(second->events.size(), 1);
  RunAll();
  EXPECT_EQ(second->usage.cached_prompt_tokens, 32);
  EXPECT_EQ(used(), KvBytes(32));
  Begin(0);
  ExpectSame(*first, *Run(Prompt(1, 40), 20));
  ExpectSame(*second, *Run(Prompt(1, 32, 3), 20));
}

TEST_F(PrefixSharingTest, PromptThatWaitsForItsTurnTakesOverWhatCameMeanwhile) {
  Begin(kPlenty);
  const auto stream = Submit(Prompt(3, 4), 30);
  scheduler_->RunOnce();
  TakeComputed();
  // Chunks of 3 beside the stream: the second waits until the first is done.
  const auto first = Submit(Prompt(1, 50), 2);
  const auto second = Submit(Prompt(1, 50), 2);
  while (first->done == 0 || second->done == 0) scheduler_->RunOnce();
  EXPECT_EQ(first->usage.cached_prompt_tokens, 0);
  // What was left of the first one's last chunk it computed itself.
  EXPECT_EQ(second->usage.cached_prompt_tokens, 48 - 1);
  EXPECT_EQ(TakeComputed(), 50 + 1 + 2);
  EXPECT_EQ(second->Ids(), first->Ids());
  // 33 positions of the stream and the three blocks of one prompt.
  EXPECT_EQ(used(), KvBytes(33) + KvBytes(48));
  RunAll();
  Begin(0);
  ExpectSame(*second, *Run(Prompt(1, 50), 2));
  ExpectSame(*stream, *Run(Prompt(3, 4), 30));
}

TEST_F(PrefixSharingTest, SameBitsUnderEvictionPressure) {
  struct Request {
    Tokens prompt;
    int64_t new_tokens;
    int n;
  };
  std::vector<Request> requests;
  for (int i = 0; i < 60; ++i) {
    requests.push_back(
        {Prompt(i * 7 % 4, 12 + i * 13 % 37, i % 5), 1 + i * 3 % 9, 1 + i % 3});
  }
  Begin(0);
  std::vector<std::shared_ptr<RecordingSink>> alone;
  for (const Request& r : requests) {
    alone.push_back(Run(r.prompt, r.new_tokens, r.n));
  }
  int64_t cached = 0;
  for (const int64_t blocks : {3, 6, 9}) {
    SCOPED_TRACE(blocks);
    // The largest request takes nine blocks.
    Begin(KvBytes(16) * blocks, KvBytes(16) * 10);
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    for (size_t i = 0; i < requests.size(); ++i) {
      const Request& r = requests[i];
      sinks.push_back(Submit(r.prompt, r.new_tokens, r.n));
      if (i % 4 != 0) scheduler_->RunOnce();
      EXPECT_LE(scheduler_->stats().prefix_cache_bytes, KvBytes(16) * blocks);
    }
    RunAll();
    for (size_t i = 0; i < requests.size(); ++i) {
      SCOPED_TRACE(i);
      // Events of a task's sequences come in the order of the rounds.
      ExpectSame(*sinks[i], *alone[i]);
      cached += sinks[i]->usage.cached_prompt_tokens;
    }
    EXPECT_EQ(used(), scheduler_->stats().prefix_cache_bytes);
  }
  EXPECT_GT(cached, 0);
}

TEST_F(PrefixSharingTest, CachedBlocksGiveWayToAdmission) {
  Begin(kPlenty, KvBytes(64));
  Run(Prompt(1, 40), 2);
  Run(Prompt(2, 32), 1);
  EXPECT_EQ(used(), KvBytes(64));
  // All of the memory, of which half holds its own beginning.
  const auto whole = Run(Prompt(1, 40), 24);
  EXPECT_TRUE(whole->status.ok()) << whole->status;
  EXPECT_EQ(whole->usage.cached_prompt_tokens, 32);
  EXPECT_EQ(Run(Prompt(2, 33), 2)->usage.cached_prompt_tokens, 0);
  // A score as well.
  auto task = std::make_unique<ScoreTask>();
  task->model = TinyModel();
  task->window.tokens = Prompt(5, 64);
  task->window.first_counted = 0;
  absl::Status status = absl::UnknownError("not done");
  task->done = [&](absl::StatusOr<ScoreTask::Result> result) {
    status = result.status();
  };
  ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
  RunAll();
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(PrefixSharingTest, NothingIsFreedForWhoMustWaitAnyway) {
  Begin(kPlenty, KvBytes(64));
  Run(Prompt(1, 20), 2);
  const auto running = Submit(Prompt(2, 17), 16);  // two blocks
  scheduler_->RunOnce();
  const auto waiting = Submit(Prompt(3, 40), 20);  // four blocks
  scheduler_->RunOnce();
  EXPECT_EQ(scheduler_->stats().waiting_tasks, 1);
  EXPECT_EQ(scheduler_->stats().prefix_cache_bytes, KvBytes(32));
  RunAll();
  EXPECT_TRUE(running->status.ok()) << running->status;
  EXPECT_TRUE(waiting->status.ok()) << waiting->status;
}

TEST_F(PrefixSharingTest, FitsBesideOthersBecauseItShares) {
  Begin(kPlenty, KvBytes(80));
  const auto first = Submit(Prompt(1, 48), 15);  // four blocks
  scheduler_->RunOnce();
  const auto second = Submit(Prompt(1, 48, 1), 15);  // one more
  scheduler_->RunOnce();
  EXPECT_THAT(second->events, SizeIs(1));
  EXPECT_EQ(used(), KvBytes(80));
  RunAll();
  EXPECT_TRUE(first->status.ok()) << first->status;
  EXPECT_TRUE(second->status.ok()) << second->status;
}

TEST_F(PrefixSharingTest, PromptLogprobsNeedEveryRow) {
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (const int64_t bytes : {int64_t{0}, kPlenty}) {
    Begin(bytes);
    Run(Prompt(1, 40), 2);
    TakeComputed();
    auto sink = std::make_shared<RecordingSink>();
    auto task = NewTask(sink, Prompt(1, 40), 4);
    task->prompt_logprobs = 0;
    ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
    RunAll();
    EXPECT_EQ(sink->usage.cached_prompt_tokens, 0);
    EXPECT_EQ(TakeComputed(), 40);
    sinks.push_back(sink);
  }
  ExpectSame(*sinks[1], *sinks[0]);
  ASSERT_THAT(sinks[1]->prompt, SizeIs(39));
  for (int i = 0; i < 39; ++i) {
    EXPECT_EQ(sinks[1]->prompt[i].logprob, sinks[0]->prompt[i].logprob);
  }
}

TEST_F(PrefixSharingTest, CancelledPromptLeavesNothing) {
  Begin(kPlenty);
  const auto stream = Submit(Prompt(3, 4), 10);
  scheduler_->RunOnce();
  auto sink = std::make_shared<RecordingSink>();
  auto task = NewTask(sink, Prompt(1, 50), 4);
  const auto cancelled = task->cancelled;
  ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
  scheduler_->RunOnce();
  scheduler_->RunOnce();
  EXPECT_THAT(sink->events, IsEmpty());
  cancelled->store(true);
  RunAll();
  EXPECT_TRUE(absl::IsCancelled(sink->status)) << sink->status;
  EXPECT_EQ(used(), 0);
}

TEST_F(PrefixSharingTest, UnloadedModelsMemoryIsFreed) {
  Begin(kPlenty);
  auto model = QuantizedTinyModel("pot2");
  ASSERT_NE(model, nullptr);
  auto task = NewTask(std::make_shared<RecordingSink>(), Prompt(1, 40), 4);
  task->model = model;
  ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
  RunAll();
  EXPECT_EQ(used(), KvBytes(32));
  const std::weak_ptr<const LoadedModel> watch = model;
  model.reset();
  EXPECT_TRUE(watch.expired()) << "what is cached keeps no model alive";
  EXPECT_FALSE(scheduler_->RunOnce());
  EXPECT_EQ(used(), 0);
  EXPECT_EQ(scheduler_->stats().prefix_cache_bytes, 0);
}

}  // namespace
}  // namespace pot
