#include "server/serving/generation_scheduler.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/gpt2/evaluation.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/serving/serving_testing.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kPlentyOfMemory = int64_t{64} << 20;

// Steps by hand.
class GenerationSchedulerTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(TinyModel(), nullptr); }

  void Begin(SchedulerOptions options = {},
             int64_t kv_bytes = kPlentyOfMemory) {
    engine_ = std::make_unique<InferenceEngine>(2, kv_bytes);
    options.now = [this] { return clock_.Now(); };
    scheduler_ = std::make_unique<GenerationScheduler>(engine_.get(), options);
  }

  void TearDown() override {
    scheduler_.reset();
    if (engine_ != nullptr) {
      EXPECT_EQ(engine_->kv_budget()->used_bytes(), 0);
    }
  }

  static std::shared_ptr<RecordingSink> NewSink() {
    return std::make_shared<RecordingSink>();
  }

  // Submits a plain task; returns its cancellation flag.
  std::shared_ptr<std::atomic<bool>> Submit(
      const std::shared_ptr<RecordingSink>& sink, int64_t prompt_tokens,
      int64_t new_tokens, absl::Time deadline = absl::InfiniteFuture()) {
    auto task =
        MakeTask(sink, std::vector<int32_t>(prompt_tokens, 70), new_tokens);
    task->deadline = deadline;
    auto cancelled = task->cancelled;
    const absl::Status status = scheduler_->Submit(std::move(task));
    EXPECT_TRUE(status.ok()) << status;
    return cancelled;
  }

  int RunAll() {
    int rounds = 0;
    while (scheduler_->RunOnce()) ++rounds;
    return rounds;
  }

  static int64_t KvBytes(int64_t positions) {
    return KvCache::BytesFor(TinyModel()->config(), TinyModel()->kv_type,
                             positions);
  }

  FakeClock clock_;
  std::unique_ptr<InferenceEngine> engine_;
  std::unique_ptr<GenerationScheduler> scheduler_;
};

// The tokens of one sequence, computed without a scheduler: the whole prompt in
// one step, nobody else in the batch.
std::vector<SampledToken> GenerateAlone(const GenerateTask& task,
                                        uint32_t index) {
  InferenceEngine engine(1, kPlentyOfMemory);
  const int64_t context = task.model->config().n_positions;
  auto cache = engine.CreateCache(*task.model, context);
  Sampler sampler(task.sampling,
                  static_cast<int>(task.model->config().vocab_size), index);
  sampler.AddPrompt(task.prompt);
  std::vector<int32_t> next = task.prompt;
  std::vector<SampledToken> tokens;
  while (static_cast<int64_t>(tokens.size()) < task.max_new_tokens) {
    const ForwardSpan span = {.cache = cache->get(), .tokens = next};
    const auto logits = engine.Step(*task.model, {span});
    if (!logits.ok()) {
      ADD_FAILURE() << logits.status();
      break;
    }
    auto token = sampler.Sample(*logits, task.prompt.size() + tokens.size(),
                                task.logprobs.value_or(0), {});
    if (!token.ok()) {
      ADD_FAILURE() << token.status();
      break;
    }
    next = {token->id};
    tokens.push_back(*std::move(token));
  }
  return tokens;
}

std::vector<int32_t> IdsOf(const std::vector<SampledToken>& tokens) {
  std::vector<int32_t> ids;
  for (const SampledToken& token : tokens) ids.push_back(token.id);
  return ids;
}

// Sixteen requests as unlike as can be.
std::unique_ptr<GenerateTask> VariedTask(int i,
                                         std::shared_ptr<TokenSink> sink) {
  std::vector<int32_t> prompt;
  for (int k = 0; k < 1 + (i * 7) % 41; ++k) {
    prompt.push_back((i * 31 + k * k * 17) % 299);
  }
  auto task = MakeTask(std::move(sink), std::move(prompt), 1 + (i * 5) % 19);
  task->model = i % 5 == 4 ? OtherTinyModel() : TinyModel();
  task->sampling.seed = 1000 + i;
  task->sampling.temperature = i % 4 == 0 ? 0.0f : 0.5f * (i % 4);
  task->sampling.top_p = i % 2 == 0 ? 1.0f : 0.9f;
  task->sampling.repetition_penalty = i % 3 == 0 ? 1.2f : 1.0f;
  task->n = task->best_of = 1 + i % 3;
  task->logprobs = 1;
  if (i % 4 == 2) task->prompt_logprobs = 1;
  return task;
}

// The first feature of the design: bits do not depend on company.
TEST_F(GenerationSchedulerTest, SameTokensAloneAndInAnyCompany) {
  constexpr int kTasks = 16;
  std::vector<std::vector<std::vector<SampledToken>>> alone(kTasks);
  for (int i = 0; i < kTasks; ++i) {
    const auto task = VariedTask(i, NewSink());
    for (int s = 0; s < task->n; ++s) {
      alone[i].push_back(GenerateAlone(*task, s));
    }
  }
  for (int variant = 0; variant < 3; ++variant) {
    SCOPED_TRACE(variant);
    SchedulerOptions options;
    options.prefill_chunk_tokens = variant == 0 ? 5 : variant == 1 ? 16 : 128;
    options.max_running_sequences = variant == 2 ? 64 : 7;
    Begin(options);
    std::vector<std::shared_ptr<RecordingSink>> sinks(kTasks);
    for (int k = 0; k < kTasks; ++k) {
      const int i = variant == 1 ? kTasks - 1 - k : (k * 5) % kTasks;
      sinks[i] = NewSink();
      ASSERT_TRUE(scheduler_->Submit(VariedTask(i, sinks[i])).ok());
      // Some join while others are in the middle of it.
      if (variant != 2 && k % 3 == 0) scheduler_->RunOnce();
    }
    RunAll();
    for (int i = 0; i < kTasks; ++i) {
      SCOPED_TRACE(i);
      EXPECT_EQ(sinks[i]->done, 1);
      EXPECT_TRUE(sinks[i]->status.ok()) << sinks[i]->status;
      for (size_t s = 0; s < alone[i].size(); ++s) {
        EXPECT_EQ(sinks[i]->Ids(s), IdsOf(alone[i][s]));
        double sum = 0;
        for (const SampledToken& token : alone[i][s]) sum += token.logprob;
        // The same bits in the same order.
        EXPECT_EQ(sinks[i]->Last(s).cumulative_logprob, sum);
      }
    }
    scheduler_.reset();
    EXPECT_EQ(engine_->kv_budget()->used_bytes(), 0);
  }
}

TEST_F(GenerationSchedulerTest, LongPromptIsChunkedBesideDecoding) {
  SchedulerOptions options;
  options.prefill_chunk_tokens = 3;
  std::vector<StepReport> reports;
  options.on_step = [&reports](const StepReport& r) { reports.push_back(r); };
  Begin(options);
  const auto first = NewSink();
  Submit(first, 3, 20);
  ASSERT_TRUE(scheduler_->RunOnce());
  ASSERT_THAT(first->events, SizeIs(1));
  const auto second = NewSink();
  Submit(second, 8, 2);  // 3 + 3 + 2
  for (int round = 1; round <= 3; ++round) {
    EXPECT_THAT(second->events, IsEmpty());
    ASSERT_TRUE(scheduler_->RunOnce());
    EXPECT_THAT(first->events, SizeIs(1 + round));
  }
  EXPECT_THAT(second->events, SizeIs(1));
  ASSERT_THAT(reports, SizeIs(4));
  EXPECT_EQ(reports[0].decode_sequences, 0);
  EXPECT_EQ(reports[0].chunk_tokens, 3);
  EXPECT_EQ(reports[3].decode_sequences, 1);
  EXPECT_EQ(reports[3].chunk_tokens, 2);
  RunAll();
  EXPECT_EQ(first->done, 1);
  EXPECT_EQ(second->done, 1);
  EXPECT_FALSE(scheduler_->RunOnce());
}

TEST_F(GenerationSchedulerTest, FullQueueIsRefusedAtOnce) {
  SchedulerOptions options;
  options.max_waiting_tasks = 2;
  options.max_waiting_tokens = 50;
  options.retry_after = absl::Seconds(3);
  Begin(options);
  const auto sink = NewSink();
  Submit(NewSink(), 20, 1);
  // 20 + 31 tokens, then one token too long for any queue.
  absl::Status status =
      scheduler_->Submit(MakeTask(sink, std::vector<int32_t>(31, 1), 1));
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(ReasonOf(status), "QUEUED_TOKENS");
  EXPECT_EQ(GetDetails(status)->metadata["limit"], "50");
  EXPECT_EQ(GetDetails(status)->metadata["value"], "51");
  EXPECT_EQ(GetDetails(status)->retry_after, absl::Seconds(3));
  status = scheduler_->Submit(MakeTask(sink, std::vector<int32_t>(51, 1), 1));
  EXPECT_EQ(ReasonOf(status), "QUEUED_TOKENS");
  EXPECT_FALSE(GetDetails(status)->retry_after.has_value());

  Submit(NewSink(), 30, 1);
  EXPECT_EQ(scheduler_->stats().waiting_tasks, 2);
  EXPECT_EQ(scheduler_->stats().waiting_tokens, 50);
  status = scheduler_->Submit(MakeTask(sink, {1}, 1));
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(ReasonOf(status), "QUEUE_FULL");
  EXPECT_EQ(GetDetails(status)->retry_after, absl::Seconds(3));
  EXPECT_EQ(sink->done, 0) << "a refused task calls nobody";

  scheduler_->RunOnce();
  EXPECT_EQ(scheduler_->stats().waiting_tasks, 0);
  EXPECT_TRUE(scheduler_->Submit(MakeTask(sink, {1}, 1)).ok());
}

TEST_F(GenerationSchedulerTest, TasksBeyondAnyLimitAreRefused) {
  SchedulerOptions options;
  options.max_running_sequences = 3;
  Begin(options, KvBytes(32) * 2);
  const auto sink = NewSink();
  // 33 positions take three blocks of 16, of which the first is whole and
  // shared: five, where there are four.
  auto task = MakeTask(sink, std::vector<int32_t>(30, 1), 4);
  task->n = task->best_of = 2;
  absl::Status status = scheduler_->Submit(std::move(task));
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(ReasonOf(status), "KV_MEMORY");
  EXPECT_FALSE(GetDetails(status)->retry_after.has_value());
  EXPECT_THAT(status.message(), HasSubstr(std::to_string(5 * KvBytes(16))));
  EXPECT_THAT(status.message(), HasSubstr(std::to_string(KvBytes(32) * 2)));

  task = MakeTask(sink, {1}, 1);
  task->n = task->best_of = 4;
  status = scheduler_->Submit(std::move(task));
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_EQ(GetDetails(status)->field, "sampling.best_of");

  const auto expect_refused = [&](std::unique_ptr<GenerateTask> bad,
                                  const std::string& reason) {
    const absl::Status refused = scheduler_->Submit(std::move(bad));
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
    EXPECT_EQ(ReasonOf(refused), reason);
  };
  expect_refused(MakeTask(sink, {}, 1), "EMPTY_PROMPT");
  expect_refused(MakeTask(sink, {300}, 1), "UNKNOWN_TOKEN");
  expect_refused(MakeTask(sink, {-1}, 1), "UNKNOWN_TOKEN");
  expect_refused(MakeTask(sink, std::vector<int32_t>(64, 1), 1),
                 "CONTEXT_OVERFLOW");
  expect_refused(MakeTask(sink, {1}, 0), "INVALID_FIELD");
  task = MakeTask(sink, {1}, 1);
  task->n = 2;
  expect_refused(std::move(task), "INVALID_FIELD");
  task = MakeTask(sink, {1}, 1);
  task->stop_strings = {""};
  expect_refused(std::move(task), "INVALID_FIELD");
  expect_refused(MakeTask(nullptr, {1}, 1), "");
  EXPECT_EQ(sink->done, 0);
  EXPECT_FALSE(scheduler_->RunOnce());
}

TEST_F(GenerationSchedulerTest, WaitsForMemoryAndNobodyOvertakes) {
  Begin({}, KvBytes(48));
  const auto big = NewSink(), bigger = NewSink(), small = NewSink();
  Submit(big, 30, 3);     // 32 positions
  Submit(bigger, 40, 2);  // 41: waits for all of the memory
  Submit(small, 2, 2);    // would fit beside the first
  scheduler_->RunOnce();
  EXPECT_THAT(big->events, SizeIs(1));
  EXPECT_THAT(small->events, IsEmpty());
  EXPECT_EQ(scheduler_->stats().waiting_tasks, 2);
  EXPECT_EQ(scheduler_->stats().running_sequences, 1);
  scheduler_->RunOnce();
  scheduler_->RunOnce();
  EXPECT_EQ(big->done, 1);
  EXPECT_THAT(small->events, IsEmpty());
  RunAll();
  EXPECT_TRUE(bigger->status.ok()) << bigger->status;
  EXPECT_EQ(small->done, 1);
  EXPECT_EQ(scheduler_->stats().running_sequences, 0);
}

TEST_F(GenerationSchedulerTest, MemoryHeldByOthersIsAnErrorAndNoHang) {
  Begin({}, KvBytes(48));
  ASSERT_TRUE(engine_->kv_budget()->TryReserve(KvBytes(48)));
  const auto sink = NewSink();
  Submit(sink, 30, 3);
  RunAll();
  EXPECT_TRUE(absl::IsResourceExhausted(sink->status)) << sink->status;
  EXPECT_EQ(ReasonOf(sink->status), "KV_MEMORY");
  engine_->kv_budget()->Release(KvBytes(48));
}

TEST_F(GenerationSchedulerTest, WaitsForSlotsOfAllItsSequences) {
  SchedulerOptions options;
  options.max_running_sequences = 3;
  Begin(options);
  const auto first = NewSink(), second = NewSink(), third = NewSink();
  Submit(first, 1, 4);
  auto task = MakeTask(second, {1, 2}, 2);
  task->n = task->best_of = 3;
  ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
  Submit(third, 1, 1);
  for (int i = 0; i < 4; ++i) scheduler_->RunOnce();
  EXPECT_EQ(first->done, 1);
  EXPECT_THAT(second->events, IsEmpty());
  scheduler_->RunOnce();
  EXPECT_THAT(second->events, SizeIs(3));
  EXPECT_EQ(scheduler_->stats().running_sequences, 3);
  RunAll();
  EXPECT_EQ(third->done, 1);
}

TEST_F(GenerationSchedulerTest, ParkedTaskKeepsItsPlaceAndStopsNobody) {
  Begin();
  const auto slow = NewSink(), quick = NewSink();
  Submit(slow, 3, 4);
  Submit(quick, 3, 6);
  scheduler_->RunOnce();
  slow->ready = false;
  scheduler_->RunOnce();
  scheduler_->RunOnce();
  EXPECT_THAT(slow->events, SizeIs(1));
  EXPECT_THAT(quick->events, SizeIs(3));
  EXPECT_EQ(scheduler_->stats().parked_sequences, 1);
  EXPECT_EQ(scheduler_->stats().running_sequences, 2);
  RunAll();
  EXPECT_EQ(quick->done, 1);
  EXPECT_EQ(slow->done, 0);
  EXPECT_FALSE(scheduler_->RunOnce());
  EXPECT_EQ(engine_->kv_budget()->used_bytes(), KvBytes(6));
  slow->ready = true;
  RunAll();
  EXPECT_TRUE(slow->status.ok());
  EXPECT_EQ(scheduler_->stats().parked_sequences, 0);
  auto task = MakeTask(NewSink(), std::vector<int32_t>(3, 70), 4);
  EXPECT_EQ(slow->Ids(), IdsOf(GenerateAlone(*task, 0)));
}

TEST_F(GenerationSchedulerTest, CountsTheTimeBetweenTokensNotThatOfTheReader) {
  LatencyHistogram latencies;
  SchedulerOptions options;
  options.inter_token_latencies = &latencies;
  Begin(options);
  const auto sink = NewSink();
  Submit(sink, 3, 5);
  for (int i = 0; i < 3; ++i) {
    scheduler_->RunOnce();
    clock_.Advance(absl::Milliseconds(10));
  }
  EXPECT_EQ(TotalCount(latencies.Read()), 2);
  sink->ready = false;
  scheduler_->RunOnce();
  clock_.Advance(absl::Seconds(10));
  sink->ready = true;
  scheduler_->RunOnce();
  clock_.Advance(absl::Milliseconds(10));
  RunAll();
  EXPECT_THAT(sink->events, SizeIs(5));
  const LatencyHistogram::Counts counts = latencies.Read();
  EXPECT_EQ(TotalCount(counts), 3);
  EXPECT_GE(PercentileOf(counts, 0.01), absl::Milliseconds(10));
  EXPECT_LT(PercentileOf(counts, 1), absl::Milliseconds(11));
}

TEST_F(GenerationSchedulerTest, ParkedTaskCanBeCancelledAndExpires) {
  Begin();
  const auto one = NewSink(), two = NewSink();
  const auto cancelled = Submit(one, 3, 9);
  Submit(two, 3, 9, clock_.Now() + absl::Seconds(5));
  scheduler_->RunOnce();
  one->ready = two->ready = false;
  EXPECT_FALSE(scheduler_->RunOnce());
  cancelled->store(true);
  EXPECT_TRUE(scheduler_->RunOnce());
  EXPECT_TRUE(absl::IsCancelled(one->status)) << one->status;
  EXPECT_EQ(two->done, 0);
  clock_.Advance(absl::Seconds(5));
  EXPECT_TRUE(scheduler_->RunOnce());
  EXPECT_TRUE(absl::IsDeadlineExceeded(two->status)) << two->status;
  EXPECT_EQ(scheduler_->stats().parked_sequences, 0);
}

TEST_F(GenerationSchedulerTest, CancellationBetweenPrefillChunks) {
  SchedulerOptions options;
  options.prefill_chunk_tokens = 8;
  Begin(options);
  const auto sink = NewSink();
  const auto cancelled = Submit(sink, 40, 5);
  scheduler_->RunOnce();
  scheduler_->RunOnce();
  EXPECT_GT(engine_->kv_budget()->used_bytes(), 0);
  cancelled->store(true);
  EXPECT_TRUE(scheduler_->RunOnce());
  EXPECT_EQ(sink->done, 1);
  EXPECT_TRUE(absl::IsCancelled(sink->status)) << sink->status;
  EXPECT_EQ(ReasonOf(sink->status), "CLIENT_CANCELLED");
  EXPECT_THAT(sink->events, IsEmpty());
  EXPECT_EQ(sink->usage.prompt_tokens, 40);
  EXPECT_EQ(sink->usage.generated_tokens, 0);
  EXPECT_EQ(engine_->kv_budget()->used_bytes(), 0);
  EXPECT_FALSE(scheduler_->RunOnce());
}

TEST_F(GenerationSchedulerTest, DeadlineInTheMiddleOfDecoding) {
  Begin();
  const auto sink = NewSink();
  Submit(sink, 3, 30, clock_.Now() + absl::Seconds(2));
  scheduler_->RunOnce();
  clock_.Advance(absl::Seconds(1));
  scheduler_->RunOnce();
  EXPECT_THAT(sink->events, SizeIs(2));
  clock_.Advance(absl::Seconds(1));
  scheduler_->RunOnce();
  EXPECT_EQ(sink->done, 1);
  EXPECT_TRUE(absl::IsDeadlineExceeded(sink->status)) << sink->status;
  EXPECT_EQ(ReasonOf(sink->status), "DEADLINE_PASSED");
  EXPECT_THAT(sink->events, SizeIs(2));
  EXPECT_EQ(sink->usage.generated_tokens, 2);
}

TEST_F(GenerationSchedulerTest, DeadlineIsLookedAtBeforeEachModelsStep) {
  SchedulerOptions options;
  // Each step takes a second; the second model's begins after the deadline.
  options.on_step = [this](const StepReport&) {
    clock_.Advance(absl::Seconds(1));
  };
  Begin(options);
  const auto first = NewSink(), second = NewSink();
  Submit(first, 3, 2);
  auto task = MakeTask(second, {1, 2, 3}, 2);
  task->model = OtherTinyModel();
  task->deadline = clock_.Now() + absl::Seconds(1);
  ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
  scheduler_->RunOnce();
  EXPECT_THAT(first->events, SizeIs(1));
  EXPECT_THAT(second->events, IsEmpty());
  EXPECT_TRUE(absl::IsDeadlineExceeded(second->status)) << second->status;
}

TEST_F(GenerationSchedulerTest, WaitingTasksExpireAndAreCancelled) {
  SchedulerOptions options;
  options.max_running_sequences = 1;
  Begin(options);
  const auto running = NewSink(), late = NewSink(), gone = NewSink();
  Submit(running, 3, 10);
  Submit(late, 3, 10, clock_.Now() + absl::Seconds(1));
  const auto cancelled = Submit(gone, 3, 10);
  scheduler_->RunOnce();
  EXPECT_EQ(scheduler_->stats().waiting_tokens, 6);
  clock_.Advance(absl::Seconds(1));
  cancelled->store(true);
  scheduler_->RunOnce();
  EXPECT_TRUE(absl::IsDeadlineExceeded(late->status)) << late->status;
  EXPECT_EQ(late->timings.queue, absl::Seconds(1));
  EXPECT_TRUE(absl::IsCancelled(gone->status)) << gone->status;
  EXPECT_EQ(scheduler_->stats().waiting_tokens, 0);
  EXPECT_THAT(running->events, SizeIs(2));
}

TEST_F(GenerationSchedulerTest, TimingsAndUsage) {
  SchedulerOptions options;
  options.prefill_chunk_tokens = 8;
  Begin(options);
  const auto sink = NewSink();
  Submit(sink, 12, 3);
  clock_.Advance(absl::Seconds(5));
  scheduler_->RunOnce();
  clock_.Advance(absl::Seconds(2));
  scheduler_->RunOnce();
  for (int i = 0; i < 2; ++i) {
    clock_.Advance(absl::Seconds(1));
    scheduler_->RunOnce();
  }
  ASSERT_EQ(sink->done, 1);
  EXPECT_EQ(sink->timings.queue, absl::Seconds(5));
  EXPECT_EQ(sink->timings.prefill, absl::Seconds(2));
  EXPECT_EQ(sink->timings.decode, absl::Seconds(2));
  EXPECT_EQ(sink->timings.first_token, absl::Seconds(7));
  EXPECT_EQ(sink->usage.prompt_tokens, 12);
  EXPECT_EQ(sink->usage.generated_tokens, 3);
}

// Whose tokens take 10 ms each.
class SlowSink : public RecordingSink {
 public:
  explicit SlowSink(FakeClock* clock) : clock_(clock) {}
  void OnToken(TokenEvent event) override {
    clock_->Advance(absl::Milliseconds(10));
    RecordingSink::OnToken(std::move(event));
  }

 private:
  FakeClock* const clock_;
};

TEST_F(GenerationSchedulerTest, DeadlineThatCannotBeMetIsRefusedWhenNew) {
  Begin();
  const auto sink = [this] { return std::make_shared<SlowSink>(&clock_); };
  const auto left = [this](int milliseconds) {
    return clock_.Now() + absl::Milliseconds(milliseconds);
  };
  // Nothing was measured.
  const auto first = sink();
  Submit(first, 3, 30, left(15));
  RunAll();
  EXPECT_EQ(ReasonOf(first->status), "DEADLINE_PASSED");
  EXPECT_THAT(first->events, SizeIs(2));

  const auto measured = sink(), refused = sink(), in_time = sink();
  Submit(measured, 3, 30);
  RunAll();
  EXPECT_TRUE(measured->status.ok()) << measured->status;
  // 29 steps after the first token take 290 ms.
  Submit(refused, 3, 30, left(280));
  Submit(in_time, 3, 30, left(310));
  scheduler_->RunOnce();
  EXPECT_TRUE(absl::IsDeadlineExceeded(refused->status)) << refused->status;
  const ErrorDetails details =
      GetDetails(refused->status).value_or(ErrorDetails());
  EXPECT_EQ(details.reason, "DEADLINE_INFEASIBLE");
  EXPECT_EQ(details.metadata.at("value"), "0.29");
  EXPECT_EQ(details.metadata.at("limit"), "0.28");
  EXPECT_THAT(refused->events, IsEmpty());
  RunAll();
  EXPECT_TRUE(in_time->status.ok()) << in_time->status;

  // It may end with its first token.
  const auto open = sink();
  auto task = MakeTask(open, {70, 70, 70}, 30);
  task->stop_strings = {"never said"};
  task->deadline = left(280);
  ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
  RunAll();
  EXPECT_EQ(ReasonOf(open->status), "DEADLINE_PASSED");
}

TEST_F(GenerationSchedulerTest, DeadlineThatCannotBeMetAnyMoreEndsInTheQueue) {
  SchedulerOptions options;
  options.max_running_sequences = 1;
  Begin(options);
  const auto measured = std::make_shared<SlowSink>(&clock_);
  const auto before = std::make_shared<SlowSink>(&clock_);
  const auto after = std::make_shared<SlowSink>(&clock_);
  Submit(measured, 3, 30);
  RunAll();
  Submit(before, 3, 30);
  Submit(after, 3, 30, clock_.Now() + absl::Milliseconds(500));
  scheduler_->RunOnce();
  EXPECT_EQ(after->done, 0);  // 300 ms and 290 ms, of which a half may go
  RunAll();
  EXPECT_EQ(ReasonOf(after->status), "DEADLINE_INFEASIBLE");
  EXPECT_THAT(after->events, IsEmpty());
}

TEST_F(GenerationSchedulerTest, RecordsTokensAndTimesOfEveryOutcome) {
  ServingMetrics metrics;
  SchedulerOptions options;
  options.metrics = &metrics;
  options.max_running_sequences = 2;
  Begin(options);
  const auto done = NewSink(), cancelled = NewSink(), waiting = NewSink();
  Submit(done, 3, 4);
  const auto flag = Submit(cancelled, 5, 30);
  const auto waiting_flag = Submit(waiting, 7, 30);
  scheduler_->RunOnce();
  EXPECT_EQ(scheduler_->stats().running_tasks, 2);
  EXPECT_EQ(scheduler_->stats().waiting_tasks, 1);
  clock_.Advance(absl::Milliseconds(40));
  scheduler_->RunOnce();
  flag->store(true);
  waiting_flag->store(true);
  do {
    clock_.Advance(absl::Milliseconds(40));
  } while (scheduler_->RunOnce());
  EXPECT_EQ(scheduler_->stats().running_tasks, 0);
  const auto& model = TinyModel()->identity;
  const auto recorded = metrics.Of(model.name, model.version);
  EXPECT_EQ(recorded->prompt_tokens, 3u + 5u);
  EXPECT_EQ(recorded->generated_tokens, 4u + 2u);
  EXPECT_EQ(recorded->wasted_tokens, 2u);
  const auto count = [](const Histogram& histogram) {
    const auto counts = histogram.Read().counts;
    return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
  };
  EXPECT_EQ(count(recorded->queue_time), 3u);
  EXPECT_EQ(count(recorded->prefill_time), 2u);
  EXPECT_EQ(count(recorded->time_to_first_token), 2u);
  EXPECT_EQ(count(recorded->decode_time), 2u);
  // 3 of the one and 1 of the other.
  EXPECT_EQ(count(recorded->inter_token_latency), 4u);
  EXPECT_NEAR(recorded->inter_token_latency.Read().sum, 0.16, 1e-9);
}

TEST_F(GenerationSchedulerTest, EndsAtTheEndOfTheContext) {
  Begin();
  const auto sink = NewSink();
  Submit(sink, 50, 1000);
  RunAll();
  EXPECT_TRUE(sink->status.ok()) << sink->status;
  EXPECT_EQ(sink->Last().finish, FinishReason::kLength);
  EXPECT_THAT(sink->Ids(), SizeIs(14));
}

TEST_F(GenerationSchedulerTest, StopStringEndsTheSequenceMidStream) {
  Begin();
  const auto whole = NewSink();
  Submit(whole, 3, 30);
  RunAll();
  // From inside the text of one token to inside that of a later one.
  ASSERT_GE(whole->events.size(), 10);
  std::string before;
  for (int i = 0; i < 4; ++i) before += whole->events[i].text;
  const std::string stop = whole->Text().substr(before.size(), 5);
  const size_t at = whole->Text().find(stop);

  const auto sink = NewSink();
  auto task = MakeTask(sink, std::vector<int32_t>(3, 70), 30);
  task->stop_strings = {stop};
  ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
  RunAll();
  EXPECT_EQ(sink->Text(), whole->Text().substr(0, at));
  EXPECT_EQ(sink->Last().finish, FinishReason::kStopString);
  EXPECT_EQ(sink->Last().stop_string, 0);
  EXPECT_LT(sink->Ids().size(), 30);
  EXPECT_EQ(sink->usage.generated_tokens, sink->Ids().size());
}

TEST_F(GenerationSchedulerTest, BestOfReturnsTheLikeliestInOrder) {
  Begin();
  const auto all = NewSink(), best = NewSink();
  auto task = MakeTask(all, {1, 2, 3}, 6);
  task->n = task->best_of = 5;
  task->logprobs = 0;
  ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
  task = MakeTask(best, {1, 2, 3}, 6);
  task->n = 2;
  task->best_of = 5;
  task->logprobs = 0;
  ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
  for (int i = 0; i < 5; ++i) scheduler_->RunOnce();
  EXPECT_THAT(best->events, IsEmpty());
  RunAll();
  ASSERT_THAT(best->events, SizeIs(2));
  // All have six tokens, so the sums rank as the means do.
  std::vector<int> order(5);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return all->Last(a).cumulative_logprob > all->Last(b).cumulative_logprob;
  });
  EXPECT_NE(all->Last(order[0]).cumulative_logprob,
            all->Last(order[4]).cumulative_logprob);
  for (int rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(best->events[rank].index, rank);
    EXPECT_EQ(best->Ids(rank), all->Ids(order[rank]));
    EXPECT_EQ(best->Text(rank), all->Text(order[rank]));
    EXPECT_THAT(best->events[rank].logprobs, SizeIs(6));
    EXPECT_EQ(best->events[rank].finish, FinishReason::kLength);
    EXPECT_EQ(best->Last(rank).cumulative_logprob,
              all->Last(order[rank]).cumulative_logprob);
  }
  EXPECT_EQ(best->usage.prompt_tokens, 3);
  EXPECT_EQ(best->usage.generated_tokens, 30);
}

TEST_F(GenerationSchedulerTest, PromptLogprobsWhateverTheChunks) {
  const std::vector<int32_t> prompt = {5, 70, 258, 277, 12, 99, 31};
  InferenceEngine engine(1, kPlentyOfMemory);
  auto cache = engine.CreateCache(*TinyModel(), 7);
  const ForwardSpan span = {.cache = cache->get(),
                            .tokens = prompt,
                            .logits = ForwardSpan::Logits::kAll};
  const auto logits = engine.Step(*TinyModel(), {span});
  ASSERT_TRUE(logits.ok()) << logits.status();
  for (int64_t rows : {1, 3, 100}) {
    SCOPED_TRACE(rows);
    SchedulerOptions options;
    options.max_logit_bytes = rows * 300 * 4;
    Begin(options);
    const auto sink = NewSink();
    auto task = MakeTask(sink, prompt, 1);
    task->prompt_logprobs = 2;
    ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
    EXPECT_EQ(RunAll(), (7 + rows - 1) / rows);
    EXPECT_EQ(sink->prompts, 1);
    ASSERT_THAT(sink->prompt, SizeIs(6));
    for (int i = 0; i < 6; ++i) {
      const SampledToken expected =
          LogprobOf(logits->subspan(i * 300, 300), prompt[i + 1], 2);
      EXPECT_EQ(sink->prompt[i].id, prompt[i + 1]);
      EXPECT_EQ(sink->prompt[i].logprob, expected.logprob);
      ASSERT_THAT(sink->prompt[i].top, SizeIs(2));
      EXPECT_EQ(sink->prompt[i].top[0].id, expected.top[0].id);
    }
    scheduler_.reset();
  }
}

TEST_F(GenerationSchedulerTest, DrainLetsTasksFinish) {
  Begin();
  const auto sink = NewSink();
  Submit(sink, 3, 5);
  scheduler_->BeginDrain();
  const absl::Status status = scheduler_->Submit(MakeTask(sink, {1}, 1));
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(ReasonOf(status), "DRAINING");
  EXPECT_TRUE(GetDetails(status)->retry_after.has_value());
  EXPECT_TRUE(scheduler_->FinishDrain(clock_.Now() + absl::Seconds(60)));
  EXPECT_TRUE(sink->status.ok()) << sink->status;
  EXPECT_EQ(sink->done, 1);
}

TEST_F(GenerationSchedulerTest, DrainEndsTheRestAtItsDeadline) {
  SchedulerOptions options;
  options.max_running_sequences = 1;
  Begin(options);
  const auto parked = NewSink(), waiting = NewSink();
  Submit(parked, 3, 5);
  Submit(waiting, 3, 5);
  scheduler_->RunOnce();
  parked->ready = false;
  EXPECT_FALSE(scheduler_->FinishDrain(clock_.Now() + absl::Milliseconds(5)));
  for (const auto& sink : {parked, waiting}) {
    EXPECT_EQ(sink->done, 1);
    EXPECT_TRUE(absl::IsUnavailable(sink->status)) << sink->status;
    EXPECT_EQ(ReasonOf(sink->status), "DRAINING");
  }
  EXPECT_EQ(engine_->kv_budget()->used_bytes(), 0);
}

TEST_F(GenerationSchedulerTest, DestructionEndsEverything) {
  SchedulerOptions options;
  options.max_running_sequences = 1;
  Begin(options);
  const auto running = NewSink(), waiting = NewSink();
  Submit(running, 3, 5);
  Submit(waiting, 3, 5);
  scheduler_->RunOnce();
  scheduler_.reset();
  for (const auto& sink : {running, waiting}) {
    EXPECT_EQ(sink->done, 1);
    EXPECT_TRUE(absl::IsCancelled(sink->status)) << sink->status;
  }
  EXPECT_EQ(running->usage.generated_tokens, 1);
}

TEST_F(GenerationSchedulerTest, ModelIsLetGoWithItsLastTask) {
  Begin();
  const auto sink = NewSink();
  auto task = MakeTask(sink, {1, 2}, 2);
  std::shared_ptr<const LoadedModel> model = QuantizedTinyModel("pot2");
  ASSERT_NE(model, nullptr);
  task->model = model;
  const std::weak_ptr<const LoadedModel> watch = model;
  model.reset();
  ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
  scheduler_->RunOnce();
  EXPECT_FALSE(watch.expired());
  RunAll();
  EXPECT_TRUE(watch.expired());
  EXPECT_TRUE(sink->status.ok()) << sink->status;
}

}  // namespace
}  // namespace pot
