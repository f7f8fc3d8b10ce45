// ScoreTasks in the scheduler.
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/gpt2/evaluation.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/serving/generation_scheduler.h"
#include "tests/server/serving/serving_testing.h"

namespace pot {
namespace {

using ::testing::SizeIs;

class ScoreSchedulingTest : public testing::Test {
 protected:
  using Outcome = std::optional<absl::StatusOr<ScoreTask::Result>>;

  void Begin(SchedulerOptions options = {}) {
    options.now = [this] { return clock_.Now(); };
    scheduler_ = std::make_unique<GenerationScheduler>(&engine_, options);
  }

  static std::vector<int32_t> Tokens(int count) {
    std::vector<int32_t> tokens;
    for (int i = 0; i < count; ++i) tokens.push_back((i * i * 13 + 7) % 299);
    return tokens;
  }

  static std::unique_ptr<ScoreTask> NewTask(std::vector<int32_t> tokens,
                                            Outcome* outcome) {
    auto task = std::make_unique<ScoreTask>();
    task->model = TinyModel();
    task->window.tokens = std::move(tokens);
    task->cancelled = std::make_shared<std::atomic<bool>>(false);
    task->done = [outcome](absl::StatusOr<ScoreTask::Result> result) {
      EXPECT_FALSE(outcome->has_value()) << "done called twice";
      *outcome = std::move(result);
    };
    return task;
  }

  static EvaluationSums Evaluated(const std::vector<int32_t>& tokens,
                                  const LoadedModel* reference,
                                  EvaluationProtocol protocol) {
    ThreadPool pool(1);
    const auto sums = Evaluate(
        *TinyModel()->weights,
        reference == nullptr ? nullptr : reference->weights.get(), tokens,
        protocol,
        [](int32_t id) {
          return TinyModel()->tokenizer->TokenBytes(id).size();
        },
        &pool, nullptr);
    EXPECT_TRUE(sums.ok()) << sums.status();
    return sums.value_or(EvaluationSums());
  }

  // The same predictions in the same order: equal to the last bit.
  static void ExpectEqual(const EvaluationSums& got,
                          const EvaluationSums& want) {
    EXPECT_EQ(got.tokens, want.tokens);
    EXPECT_EQ(got.bytes, want.bytes);
    EXPECT_EQ(got.nats, want.nats);
    EXPECT_EQ(got.nats_squared, want.nats_squared);
    EXPECT_EQ(got.kl, want.kl);
    EXPECT_EQ(got.top1_agreements, want.top1_agreements);
    EXPECT_EQ(got.reference_nats, want.reference_nats);
    EXPECT_EQ(got.difference_squared, want.difference_squared);
  }

  void RunAll() {
    while (scheduler_->RunOnce()) {
    }
  }

  FakeClock clock_;
  InferenceEngine engine_{2, int64_t{64} << 20};
  std::unique_ptr<GenerationScheduler> scheduler_;
};

TEST_F(ScoreSchedulingTest, SumsAreThoseOfAnEvaluationHoweverChunked) {
  const std::vector<int32_t> tokens = Tokens(51);
  const EvaluationSums want =
      Evaluated(tokens, OtherTinyModel().get(), {.window = 50, .stride = 50});
  ASSERT_EQ(want.tokens, 50);
  ASSERT_GT(want.kl, 0);
  for (int64_t rows : {1, 7, 64}) {
    SCOPED_TRACE(rows);
    SchedulerOptions options;
    options.max_logit_bytes = rows * 300 * 4;
    Begin(options);
    Outcome outcome;
    auto task = NewTask(tokens, &outcome);
    task->reference = OtherTinyModel();
    ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
    RunAll();
    ASSERT_TRUE(outcome.has_value());
    ASSERT_TRUE(outcome->ok()) << outcome->status();
    ExpectEqual((*outcome)->sums, want);
    EXPECT_THAT((*outcome)->tokens, SizeIs(0));
  }
}

TEST_F(ScoreSchedulingTest, OnlyCountedPredictionsCount) {
  const std::vector<int32_t> tokens = Tokens(31);
  const auto all = Evaluated(tokens, nullptr, {.window = 30, .stride = 30});
  const auto first_half = Evaluated({tokens.begin(), tokens.begin() + 13},
                                    nullptr, {.window = 12, .stride = 12});
  SchedulerOptions options;
  options.prefill_chunk_tokens = 5;
  Begin(options);
  Outcome outcome;
  auto task = NewTask(tokens, &outcome);
  task->window.first_counted = 12;
  task->want_tokens = true;
  task->alternatives = 3;
  ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
  RunAll();
  ASSERT_TRUE(outcome.has_value() && outcome->ok());
  const ScoreTask::Result& result = **outcome;
  EXPECT_EQ(result.sums.tokens, 18);
  EXPECT_EQ(result.sums.bytes, all.bytes - first_half.bytes);
  // A difference of two sums of at most 30 terms below 32: each of the about
  // 60 additions rounds by at most 2^-53 * 1024.
  EXPECT_NEAR(result.sums.nats, all.nats - first_half.nats, 1e-11);
  ASSERT_THAT(result.tokens, SizeIs(18));
  double nats = 0;
  for (int i = 0; i < 18; ++i) {
    EXPECT_EQ(result.tokens[i].id, tokens[13 + i]);
    EXPECT_THAT(result.tokens[i].top, SizeIs(3));
    nats -= result.tokens[i].logprob;
  }
  // Log-probabilities are floats below 32: each is off by at most 2^-20.
  EXPECT_NEAR(nats, result.sums.nats, 18 * 0x1p-20);
}

TEST_F(ScoreSchedulingTest, ModelAgainstItselfDiffersInNothing) {
  Begin();
  Outcome outcome;
  auto task = NewTask(Tokens(40), &outcome);
  task->reference = TinyModel();
  ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
  RunAll();
  ASSERT_TRUE(outcome.has_value() && outcome->ok());
  EXPECT_EQ((*outcome)->sums.kl, 0);
  EXPECT_EQ((*outcome)->sums.top1_agreements, 39);
  EXPECT_EQ((*outcome)->sums.difference_squared, 0);
  EXPECT_GT((*outcome)->sums.reference_nats, 0);
}

TEST_F(ScoreSchedulingTest, RunsBesideGenerationWithoutStallingIt) {
  SchedulerOptions options;
  options.prefill_chunk_tokens = 3;
  Begin(options);
  Outcome outcome, second;
  auto task = NewTask(Tokens(16), &outcome);
  task->reference = OtherTinyModel();
  ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
  ASSERT_TRUE(scheduler_->Submit(NewTask(Tokens(7), &second)).ok());
  const auto sink = std::make_shared<RecordingSink>();
  ASSERT_TRUE(scheduler_->Submit(MakeTask(sink, {1}, 12)).ok());
  // 15 inputs in five chunks, then six in two, then the prompt: first come,
  // first served.
  for (int i = 0; i < 5; ++i) scheduler_->RunOnce();
  EXPECT_TRUE(outcome.has_value());
  EXPECT_FALSE(second.has_value());
  for (int i = 0; i < 2; ++i) scheduler_->RunOnce();
  EXPECT_TRUE(second.has_value());
  EXPECT_EQ(sink->events.size(), 0);
  // And a decoding sequence gets its token beside any of them.
  scheduler_->RunOnce();
  Outcome third;
  ASSERT_TRUE(scheduler_->Submit(NewTask(Tokens(16), &third)).ok());
  for (int i = 0; i < 5; ++i) scheduler_->RunOnce();
  EXPECT_TRUE(third.has_value());
  EXPECT_EQ(sink->events.size(), 6);
  RunAll();
  EXPECT_TRUE(sink->status.ok()) << sink->status;
  EXPECT_EQ(engine_.kv_budget()->used_bytes(), 0);
}

TEST_F(ScoreSchedulingTest, CancellationDeadlineAndDestruction) {
  SchedulerOptions options;
  options.prefill_chunk_tokens = 4;
  Begin(options);
  Outcome cancelled, late, left;
  auto task = NewTask(Tokens(40), &cancelled);
  const auto flag = task->cancelled;
  ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
  task = NewTask(Tokens(40), &late);
  task->deadline = clock_.Now() + absl::Seconds(1);
  ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
  ASSERT_TRUE(scheduler_->Submit(NewTask(Tokens(40), &left)).ok());
  scheduler_->RunOnce();
  EXPECT_GT(engine_.kv_budget()->used_bytes(), 0);
  flag->store(true);
  clock_.Advance(absl::Seconds(1));
  scheduler_->RunOnce();
  ASSERT_TRUE(cancelled.has_value() && late.has_value());
  EXPECT_TRUE(absl::IsCancelled(cancelled->status())) << cancelled->status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(late->status())) << late->status();
  EXPECT_FALSE(left.has_value());
  scheduler_.reset();
  ASSERT_TRUE(left.has_value());
  EXPECT_TRUE(absl::IsCancelled(left->status())) << left->status();
  EXPECT_EQ(engine_.kv_budget()->used_bytes(), 0);
}

TEST_F(ScoreSchedulingTest, BadWindowsAreRefused) {
  Begin();
  Outcome outcome;
  const auto expect_refused = [&](std::unique_ptr<ScoreTask> task,
                                  const char* reason) {
    const absl::Status status = scheduler_->Submit(std::move(task));
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_EQ(ReasonOf(status), reason);
  };
  expect_refused(NewTask({}, &outcome), "EMPTY_PROMPT");
  expect_refused(NewTask({1}, &outcome), "EMPTY_PROMPT");
  expect_refused(NewTask({1, 300}, &outcome), "UNKNOWN_TOKEN");
  expect_refused(NewTask(Tokens(66), &outcome), "CONTEXT_OVERFLOW");
  auto task = NewTask({1, 2}, &outcome);
  task->window.first_counted = 2;
  expect_refused(std::move(task), "INVALID_FIELD");
  EXPECT_FALSE(outcome.has_value());
  EXPECT_TRUE(scheduler_->Submit(NewTask(Tokens(65), &outcome)).ok());
  RunAll();
  ASSERT_TRUE(outcome.has_value() && outcome->ok());
  EXPECT_EQ((*outcome)->sums.tokens, 64);
}

TEST_F(ScoreSchedulingTest, Timings) {
  SchedulerOptions options;
  options.prefill_chunk_tokens = 10;
  Begin(options);
  Outcome outcome;
  ASSERT_TRUE(scheduler_->Submit(NewTask(Tokens(21), &outcome)).ok());
  clock_.Advance(absl::Seconds(4));
  scheduler_->RunOnce();
  clock_.Advance(absl::Seconds(3));
  scheduler_->RunOnce();
  ASSERT_TRUE(outcome.has_value() && outcome->ok());
  EXPECT_EQ((*outcome)->timings.queue, absl::Seconds(4));
  EXPECT_EQ((*outcome)->timings.prefill, absl::Seconds(3));
  EXPECT_EQ((*outcome)->timings.decode, absl::ZeroDuration());
}

}  // namespace
}  // namespace pot
