// Errors of the engine end the tasks they concern, and only them.
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/serving/generation_scheduler.h"
#include "tests/server/serving/serving_testing.h"

namespace pot {
namespace {

using ::testing::HasSubstr;

// A head that breaks when told to.
class FragileHead : public Linear {
 public:
  enum class Fault { kNone, kManyRows, kAlways, kNan };

  FragileHead(std::unique_ptr<const Linear> head, const Fault* fault)
      : head_(std::move(head)), fault_(fault) {}

  int64_t inputs() const override { return head_->inputs(); }
  int64_t outputs() const override { return head_->outputs(); }
  absl::Status Forward(const float* x, int64_t rows, float* y,
                       ThreadPool* pool) const override {
    if (*fault_ == Fault::kAlways ||
        (*fault_ == Fault::kManyRows && rows > 1)) {
      return absl::UnknownError("the head broke");
    }
    const absl::Status status = head_->Forward(x, rows, y, pool);
    if (*fault_ == Fault::kNan) y[5] = std::numeric_limits<float>::infinity();
    return status;
  }
  void WeightRow(int64_t output, absl::Span<float> weights) const override {
    head_->WeightRow(output, weights);
  }
  int64_t resident_bytes() const override { return head_->resident_bytes(); }

 private:
  const std::unique_ptr<const Linear> head_;
  const Fault* const fault_;
};

class StepFailureTest : public testing::Test {
 protected:
  using Fault = FragileHead::Fault;

  StepFailureTest() {
    const auto whole = QuantizedTinyModel("pot4");
    if (whole == nullptr) return;
    // Nobody else has the model yet, and its parts were not made const.
    auto* model = const_cast<LoadedModel*>(whole.get());
    auto* weights = const_cast<ModelWeights*>(model->weights.get());
    weights->head =
        std::make_unique<FragileHead>(std::move(weights->head), &fault_);
    model_ = whole;
    SchedulerOptions options;
    options.prefill_chunk_tokens = 64;
    scheduler_.emplace(&engine_, options);
  }

  void SetUp() override { ASSERT_NE(model_, nullptr); }

  std::shared_ptr<RecordingSink> Submit(
      std::shared_ptr<const LoadedModel> model, std::vector<int32_t> prompt) {
    auto sink = std::make_shared<RecordingSink>();
    auto task = MakeTask(sink, std::move(prompt), 4);
    task->model = std::move(model);
    const absl::Status status = scheduler_->Submit(std::move(task));
    EXPECT_TRUE(status.ok()) << status;
    return sink;
  }

  void RunAll() {
    while (scheduler_->RunOnce()) {
    }
  }

  Fault fault_ = Fault::kNone;
  std::shared_ptr<const LoadedModel> model_;
  InferenceEngine engine_{1, int64_t{64} << 20};
  std::optional<GenerationScheduler> scheduler_;
};

TEST_F(StepFailureTest, StepThatFailsAsAWholeIsTriedInParts) {
  const auto want_a = Submit(model_, {1, 2, 3});
  const auto want_b = Submit(model_, {4, 5});
  RunAll();
  fault_ = Fault::kManyRows;
  const auto a = Submit(model_, {1, 2, 3});
  const auto b = Submit(model_, {4, 5});
  RunAll();
  EXPECT_TRUE(a->status.ok()) << a->status;
  EXPECT_TRUE(b->status.ok()) << b->status;
  EXPECT_EQ(a->Ids(), want_a->Ids());
  EXPECT_EQ(b->Ids(), want_b->Ids());
}

TEST_F(StepFailureTest, FailureEndsTasksOfThatModelOnly) {
  const auto broken = Submit(model_, {1, 2, 3});
  const auto also_broken = Submit(model_, {4});
  const auto whole = Submit(TinyModel(), {1, 2, 3});
  scheduler_->RunOnce();
  fault_ = Fault::kAlways;
  RunAll();
  for (const auto& sink : {broken, also_broken}) {
    EXPECT_EQ(sink->done, 1);
    EXPECT_TRUE(absl::IsInternal(sink->status)) << sink->status;
    EXPECT_THAT(sink->status.message(), HasSubstr("the head broke"));
    EXPECT_EQ(ReasonOf(sink->status), "INTERNAL");
    EXPECT_EQ(sink->usage.generated_tokens, 1);
  }
  EXPECT_TRUE(whole->status.ok()) << whole->status;
  EXPECT_EQ(whole->usage.generated_tokens, 4);
  EXPECT_EQ(engine_.kv_budget()->used_bytes(), 0);
}

TEST_F(StepFailureTest, NonFiniteLogitsEndTheSequenceThatHasThem) {
  fault_ = Fault::kNan;  // in the first row of a step
  const auto first = Submit(model_, {1, 2, 3});
  const auto second = Submit(model_, {4, 5});
  scheduler_->RunOnce();
  fault_ = Fault::kNone;
  RunAll();
  EXPECT_TRUE(absl::IsDataLoss(first->status)) << first->status;
  EXPECT_EQ(ReasonOf(first->status), "NON_FINITE_LOGITS");
  EXPECT_TRUE(second->status.ok()) << second->status;
}

TEST_F(StepFailureTest, NonFiniteLogitsOfAPromptAreAnErrorToo) {
  fault_ = Fault::kNan;
  auto sink = std::make_shared<RecordingSink>();
  auto task = MakeTask(sink, {1, 2, 3}, 4);
  task->model = model_;
  task->prompt_logprobs = 0;
  ASSERT_TRUE(scheduler_->Submit(std::move(task)).ok());
  std::optional<absl::Status> scored;
  auto score = std::make_unique<ScoreTask>();
  score->model = TinyModel();
  score->reference = model_;
  score->window.tokens = {1, 2, 3};
  score->done = [&](absl::StatusOr<ScoreTask::Result> result) {
    scored = result.status();
  };
  RunAll();
  ASSERT_TRUE(scheduler_->Submit(std::move(score)).ok());
  RunAll();
  EXPECT_TRUE(absl::IsDataLoss(sink->status)) << sink->status;
  EXPECT_EQ(sink->prompts, 0);
  ASSERT_TRUE(scored.has_value());
  EXPECT_TRUE(absl::IsDataLoss(*scored)) << *scored;
  EXPECT_EQ(ReasonOf(*scored), "NON_FINITE_LOGITS");
}

}  // namespace
}  // namespace pot
