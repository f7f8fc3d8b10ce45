#include "server/serving/chunk_pacer.h"

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/serving/completion_predictor.h"
#include "server/serving/generation_scheduler.h"
#include "tests/server/serving/serving_testing.h"

namespace pot {
namespace {

using testing::ElementsAre;

constexpr absl::Duration kMs = absl::Milliseconds(1);

class ChunkPacerTest : public testing::Test {
 protected:
  void RecordTimes(int times, int64_t sequences, int64_t tokens,
                   absl::Duration duration) {
    for (int i = 0; i < times; ++i) {
      pacer_.Record(&model_, sequences, tokens, duration);
    }
  }
  int64_t Beside(int64_t sequences) {
    return pacer_.ChunkTokens(&model_, {{&model_, sequences}});
  }

  const LoadedModel model_{}, other_{};
  ChunkPacer pacer_{512};
};

TEST_F(ChunkPacerTest, WholeChunksWhenNothingDecodes) {
  EXPECT_EQ(pacer_.ChunkTokens(&model_, {}), 512);
  RecordTimes(9, 0, 512, 800 * kMs);
  EXPECT_EQ(pacer_.ChunkTokens(&model_, {}), 512);
  EXPECT_EQ(ChunkPacer(0).ChunkTokens(&model_, {}), 1);
}

TEST_F(ChunkPacerTest, LeastChunkUntilTimesAreKnown) {
  EXPECT_EQ(Beside(1), 3);
  EXPECT_EQ(Beside(2), 2);
  EXPECT_EQ(Beside(3), 5) << "one would be too few";
  EXPECT_EQ(Beside(4), 4);
  RecordTimes(1, 1, 0, 5 * kMs);
  EXPECT_EQ(Beside(1), 3);
  EXPECT_EQ(ChunkPacer(2).ChunkTokens(&model_, {{&model_, 1}}), 2);
}

TEST_F(ChunkPacerTest, ChunkTakesAsLongAsDecoding) {
  RecordTimes(9, 2, 0, 6 * kMs);
  RecordTimes(1, 2, 16, 8 * kMs);  // 2 ms for 16 tokens
  EXPECT_EQ(Beside(2), 50) << "48, and two to fill up";
  RecordTimes(9, 2, 50, 10 * kMs);  // 4 ms for 50: the more the cheaper
  EXPECT_EQ(Beside(2), 74) << "75, which is one too many";
  RecordTimes(9, 2, 70, 13 * kMs);  // 7 ms for 70
  EXPECT_EQ(Beside(2), 62) << "60";
  RecordTimes(9, 2, 62, 74 * kMs);
  EXPECT_EQ(Beside(2), 6) << "5.5";
  RecordTimes(9, 2, 2, 20 * kMs);
  EXPECT_EQ(Beside(2), 2) << "gets on, whatever it costs";
}

TEST_F(ChunkPacerTest, PromptsAloneTellTheirCost) {
  RecordTimes(1, 0, 512, 256 * kMs);
  RecordTimes(1, 1, 0, 10 * kMs);
  EXPECT_EQ(Beside(1), 19);
  RecordTimes(9, 1, 0, 50 * kMs);
  EXPECT_EQ(Beside(1), 99);
}

TEST_F(ChunkPacerTest, FlagIsTheUpperBound) {
  RecordTimes(9, 1, 0, 1000 * kMs);
  RecordTimes(9, 1, 128, 1001 * kMs);
  EXPECT_EQ(Beside(1), 511) << "512 rows";
  EXPECT_EQ(Beside(2), 512) << "514 tokens would fill up the rows";
  // A step with a chunk that was no longer than one without.
  RecordTimes(9, 1, 128, 900 * kMs);
  EXPECT_EQ(Beside(4), 512);
}

TEST_F(ChunkPacerTest, GrowsStepByStep) {
  RecordTimes(9, 2, 0, 20 * kMs);
  // By a hiccup before, it took no longer than decoding.
  RecordTimes(1, 2, 2, 19 * kMs);
  EXPECT_EQ(Beside(2), 10) << "four times two, and two to fill up";
  RecordTimes(1, 2, 10, 20 * kMs);
  EXPECT_EQ(Beside(2), 42);
  RecordTimes(9, 2, 42, 41 * kMs);  // 21 ms for 42 tokens
  EXPECT_EQ(Beside(2), 42);
}

TEST_F(ChunkPacerTest, OneHiccupChangesNothing) {
  RecordTimes(9, 1, 0, 4 * kMs);
  RecordTimes(9, 1, 31, 8 * kMs);
  ASSERT_EQ(Beside(1), 31);
  RecordTimes(1, 1, 0, 500 * kMs);
  RecordTimes(1, 1, 31, 500 * kMs);
  RecordTimes(1, 1, 31, -500 * kMs);
  EXPECT_EQ(Beside(1), 31);
}

TEST_F(ChunkPacerTest, FollowsAMachineThatSlowsDown) {
  RecordTimes(9, 1, 0, 4 * kMs);
  RecordTimes(9, 1, 31, 8 * kMs);
  ASSERT_EQ(Beside(1), 31);
  RecordTimes(5, 1, 0, 8 * kMs);
  RecordTimes(5, 1, 32, 24 * kMs);  // 16 ms for 32 tokens
  EXPECT_EQ(Beside(1), 15);
}

TEST_F(ChunkPacerTest, DecodingIsKnownByTheNumberOfSequences) {
  RecordTimes(9, 1, 0, 8 * kMs);
  RecordTimes(9, 16, 0, 32 * kMs);
  RecordTimes(9, 1, 32, 24 * kMs);  // half a millisecond each
  EXPECT_EQ(Beside(1), 15);
  EXPECT_EQ(Beside(4), 16) << "as one: of the next fewer";
  EXPECT_EQ(Beside(9), 63);
  EXPECT_EQ(Beside(4000), 64);
}

TEST_F(ChunkPacerTest, UnknownNumberTakesTheNextMore) {
  RecordTimes(9, 8, 0, 32 * kMs);
  RecordTimes(9, 8, 32, 48 * kMs);
  EXPECT_EQ(Beside(1), 63);
}

TEST_F(ChunkPacerTest, MeasuresDecodingNowAndThen) {
  RecordTimes(1, 1, 0, 4 * kMs);
  RecordTimes(ChunkPacer::kStepsBetweenMeasures - 1, 1, 15, 8 * kMs);
  EXPECT_EQ(Beside(1), 15);
  RecordTimes(1, 1, 15, 8 * kMs);
  EXPECT_EQ(Beside(1), 0);
  EXPECT_EQ(pacer_.ChunkTokens(&model_, {}), 512) << "nothing to measure";
  RecordTimes(1, 1, 0, 4 * kMs);
  EXPECT_EQ(Beside(1), 15);
}

TEST_F(ChunkPacerTest, ARoundOfTwoModelsIsOneWait) {
  RecordTimes(9, 1, 0, 10 * kMs);
  pacer_.Record(&other_, 1, 0, 22 * kMs);
  pacer_.Record(&other_, 0, 100, 100 * kMs);
  EXPECT_EQ(pacer_.ChunkTokens(&other_, {{&model_, 1}}), 12)
      << "10, in rows of its own model";
  EXPECT_EQ(pacer_.ChunkTokens(&other_, {{&model_, 1}, {&other_, 1}}), 31);
}

TEST_F(ChunkPacerTest, ForgetsTheModelsOfLongAgo) {
  RecordTimes(9, 1, 0, 10 * kMs);
  RecordTimes(9, 0, 512, 51.2 * kMs);
  ASSERT_EQ(Beside(1), 99);
  const std::vector<LoadedModel> later(64);
  for (const LoadedModel& model : later) pacer_.Record(&model, 1, 0, kMs);
  EXPECT_EQ(Beside(1), 3);
}

// A layer that takes 10 ms and a quarter of one per row.
class SlowLinear : public Linear {
 public:
  SlowLinear(std::unique_ptr<const Linear> linear, FakeClock* clock)
      : linear_(std::move(linear)), clock_(clock) {}

  int64_t inputs() const override { return linear_->inputs(); }
  int64_t outputs() const override { return linear_->outputs(); }
  absl::Status Forward(const float* x, int64_t rows, float* y,
                       ThreadPool* pool) const override {
    clock_->Advance(10 * kMs + rows * kMs / 4);
    return linear_->Forward(x, rows, y, pool);
  }
  void WeightRow(int64_t output, absl::Span<float> weights) const override {
    linear_->WeightRow(output, weights);
  }
  int64_t resident_bytes() const override { return linear_->resident_bytes(); }

 private:
  const std::unique_ptr<const Linear> linear_;
  FakeClock* const clock_;
};

TEST(ChunkPacingTest, StreamIsNotStalledAndTokensAreTheSame) {
  FakeClock clock;
  std::vector<std::vector<int32_t>> ids;
  for (const bool slow : {false, true}) {
    const auto model = QuantizedTinyModel("pot4");
    ASSERT_NE(model, nullptr);
    if (slow) {
      // Nobody else has the model yet, and its parts were not made const.
      auto* weights = const_cast<ModelWeights*>(model->weights.get());
      auto& linear = weights->layers[0].attn_c_attn;
      linear = std::make_unique<SlowLinear>(std::move(linear), &clock);
    }
    InferenceEngine engine(1, int64_t{64} << 20);
    std::vector<StepReport> reports;
    SchedulerOptions options;
    options.prefill_chunk_tokens = slow ? 40 : 8;
    options.now = [&] { return clock.Now(); };
    options.on_step = [&](const StepReport& report) {
      reports.push_back(report);
    };
    GenerationScheduler scheduler(&engine, options);
    const auto submit = [&](std::vector<int32_t> prompt, int64_t new_tokens) {
      auto sink = std::make_shared<RecordingSink>();
      auto task = MakeTask(sink, std::move(prompt), new_tokens);
      task->model = model;
      EXPECT_TRUE(scheduler.Submit(std::move(task)).ok());
      return sink;
    };
    const auto stream = submit({1, 2, 3}, 40);
    for (int i = 0; i < 10; ++i) scheduler.RunOnce();
    reports.clear();
    const auto prompt = submit(std::vector<int32_t>(60, 70), 1);
    while (prompt->done == 0) scheduler.RunOnce();
    if (slow) {
      // 10.25 ms go into the stream; 3 tokens as a start take 0.75 ms more, so
      // 41 would fit; a chunk is at most four times the longest before, and 39
      // and the stream's are whole units of rows.
      std::vector<int64_t> chunks;
      for (const StepReport& report : reports) {
        chunks.push_back(report.chunk_tokens);
        EXPECT_EQ(report.decode_sequences, 1);
        EXPECT_LE(report.duration, 2 * 10.25 * kMs);
      }
      EXPECT_THAT(chunks, ElementsAre(3, 11, 39, 7));
    }
    while (scheduler.RunOnce()) {
    }
    EXPECT_TRUE(stream->status.ok()) << stream->status;
    EXPECT_TRUE(prompt->status.ok()) << prompt->status;
    ids.push_back(stream->Ids());
    ids.push_back(prompt->Ids());
  }
  EXPECT_EQ(ids[0], ids[2]);
  EXPECT_EQ(ids[1], ids[3]);
}

// Only its address is used.
const LoadedModel* const kModel = reinterpret_cast<const LoadedModel*>(64);

TEST(CompletionPredictorTest, PredictsNothingFromTooFewSteps) {
  CompletionPredictor predictor;
  for (int i = 1; i < CompletionPredictor::kSteps; ++i) {
    predictor.RecordStep(kModel, 1, 0, absl::Seconds(1));
  }
  for (int i = 1; i < CompletionPredictor::kChunks; ++i) {
    predictor.RecordStep(kModel, 0, 100, absl::Seconds(1));
  }
  EXPECT_EQ(predictor.ComputeTime(kModel, 1000, 1000), absl::ZeroDuration());
  EXPECT_EQ(predictor.ComputeTime(nullptr, 1000, 1000), absl::ZeroDuration());
}

TEST(CompletionPredictorTest, TakesTheFastestOfTheLastStepsOfAnyBatch) {
  CompletionPredictor predictor;
  for (int i = 0; i < CompletionPredictor::kSteps; ++i) {
    predictor.RecordStep(kModel, 32, 0, absl::Milliseconds(20 + i));
  }
  EXPECT_EQ(predictor.ComputeTime(kModel, 0, 10), absl::Milliseconds(200));
  for (int i = 0; i < CompletionPredictor::kSteps; ++i) {
    predictor.RecordStep(kModel, 1, 0, absl::Milliseconds(5));
    predictor.RecordStep(kModel, 32, 0, absl::Milliseconds(40));
  }
  // Others may leave, so the time of one alone counts.
  EXPECT_EQ(predictor.ComputeTime(kModel, 0, 10), absl::Milliseconds(50));

  // 100 tokens in 30 ms, beside decoding in 5 ms more; short ones say nothing.
  for (int i = 0; i < CompletionPredictor::kChunks; ++i) {
    predictor.RecordStep(kModel, 0, 4, absl::Microseconds(1));
    predictor.RecordStep(kModel, 8, 100, absl::Milliseconds(35));
  }
  EXPECT_EQ(predictor.ComputeTime(kModel, 50, 0), absl::Milliseconds(15));
  EXPECT_EQ(predictor.ComputeTime(kModel, 50, 2), absl::Milliseconds(25));
}

}  // namespace
}  // namespace pot
