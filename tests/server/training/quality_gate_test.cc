#include "server/training/quality_gate.h"

#include <atomic>
#include <chrono>
#include <limits>
#include <thread>

#include "engine/base/thread_pool.h"
#include "gmock/gmock.h"
#include "tests/server/training/driver_testing.h"

namespace pot {
namespace {

using FilesIn = std::filesystem::directory_iterator;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

bool Never() { return false; }

class QualityGateTest : public DriverTest {
 protected:
  GateInput Input(const std::string& format) {
    GateInput input;
    input.base_directory = TinyBpeDirectory();
    input.base_digest = "base";
    input.checkpoint_directory = MakeCheckpoint(format);
    input.step = 7;
    input.text.paths = {DatasetsDirectory(jobs_root_) + "/" + TextDigest()};
    input.text.digests = {TextDigest()};
    input.protocol = {32, 16};
    return input;
  }
  LoadOptions Load() const {
    LoadOptions load;
    load.kernels = BestKernels();
    return load;
  }
};

TEST_F(QualityGateTest, GivesTheFiguresOfTheEngineAndComparesThem) {
  GateInput input = Input("pot4");
  QualityGate gate(Load(), temp_.File("evaluations"));
  const auto report = gate.Evaluate(input, &Never);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->passed());

  // The same by the engine alone.
  const auto base = MustLoad(TinyBpeDirectory(), BestKernels());
  const auto model = *LoadModel(input.checkpoint_directory, {}, Load());
  std::vector<int32_t> tokens;
  ASSERT_TRUE(model->tokenizer->Encode(ValidationText(), &tokens).ok());
  ThreadPool pool(1);
  const auto bytes = [&](int32_t id) {
    return static_cast<int64_t>(model->tokenizer->TokenBytes(id).size());
  };
  const EvaluationSums sums = *Evaluate(*model->weights, base.get(), tokens,
                                        {32, 16}, bytes, &pool, nullptr);
  const v1::CheckpointEvaluation& measured = report->checkpoint();
  EXPECT_EQ(measured.step(), 7);
  EXPECT_EQ(measured.tokens(), static_cast<int64_t>(tokens.size()) - 1);
  EXPECT_EQ(measured.perplexity(), sums.perplexity());
  EXPECT_EQ(measured.standard_error(), sums.standard_error());
  EXPECT_EQ(measured.mean_kl_nats(),
            sums.kl / static_cast<double>(sums.tokens));
  EXPECT_GT(measured.mean_kl_nats(), 0);
  EXPECT_LT(measured.top1_agreement(), 1);
  EXPECT_NEAR(report->base().nats_per_token(),
              sums.reference_nats / static_cast<double>(sums.tokens), 1e-9);
  EXPECT_FALSE(report->base().has_mean_kl_nats());

  // Every condition, just met and just missed.
  const double ratio = measured.perplexity() / report->base().perplexity();
  v1::QualityGate& limits = input.limits;
  limits.set_max_perplexity_ratio(ratio * 1.0001);
  limits.set_max_perplexity(measured.perplexity());
  limits.set_max_mean_kl_nats(measured.mean_kl_nats());
  limits.set_min_top1_agreement(measured.top1_agreement());
  EXPECT_TRUE(gate.Evaluate(input, &Never)->passed());
  limits.set_max_perplexity_ratio(ratio * 0.9999);
  limits.set_max_perplexity(measured.perplexity() - 1e-6);
  limits.set_max_mean_kl_nats(measured.mean_kl_nats() / 2);
  limits.set_min_top1_agreement(1);
  const v1::GateReport missed = *gate.Evaluate(input, &Never);
  EXPECT_FALSE(missed.passed());
  EXPECT_THAT(missed.violations(),
              ElementsAre(HasSubstr("max_perplexity_ratio is "),
                          HasSubstr("max_perplexity is "),
                          HasSubstr("max_mean_kl_nats is "),
                          HasSubstr("min_top1_agreement is 1, but")));
  EXPECT_THAT(missed.violations(1),
              HasSubstr(absl::StrCat(measured.perplexity())));
}

TEST_F(QualityGateTest, MeasuresTheBaseOncePerTextAndProtocol) {
  GateInput input = Input("pot4");
  QualityGate gate(Load(), temp_.File("evaluations"));
  v1::GateReport report = *gate.Evaluate(input, &Never);
  const auto files = [&] {
    const FilesIn all(temp_.File("evaluations"));
    return std::distance(begin(all), end(all));
  };
  ASSERT_EQ(files(), 1);
  // What is kept is what is used.
  v1::CheckpointEvaluation kept = report.base();
  kept.set_perplexity(3);
  const FilesIn only(temp_.File("evaluations"));
  WriteTo(only->path().string(), kept.SerializeAsString());
  EXPECT_EQ(gate.Evaluate(input, &Never)->base().perplexity(), 3);
  // Torn by a crash: measured again.
  WriteTo(only->path().string(), "");
  EXPECT_EQ(gate.Evaluate(input, &Never)->base().perplexity(),
            report.base().perplexity());
  input.protocol.stride = 32;
  EXPECT_NE(gate.Evaluate(input, &Never)->base().perplexity(),
            report.base().perplexity());
  EXPECT_EQ(files(), 2);
}

TEST_F(QualityGateTest, ReadsTheHeldOutEndOfSeveralFiles) {
  GateText text;
  text.paths = {temp_.File("a"), temp_.File("b")};
  WriteTo(text.paths[0], "abcd\xC3\xA9");  // 6 bytes, the last two one letter
  WriteTo(text.paths[1], "ghij");
  text.begin = 0;
  EXPECT_EQ(*ReadGateText(text), "abcd\xC3\xA9ghij");
  text.begin = 0.55;  // byte 5 is in the letter
  EXPECT_EQ(*ReadGateText(text), "\xC3\xA9ghij");
  text.begin = 0.75;  // byte 7
  EXPECT_EQ(*ReadGateText(text), "hij");
  text.paths.push_back(temp_.File("missing"));
  EXPECT_TRUE(absl::IsNotFound(ReadGateText(text).status()));
}

TEST_F(QualityGateTest, RunsOnItsOwnThreadAndIsCancelled) {
  std::atomic<int> done{0};
  absl::StatusOr<v1::GateReport> result;
  std::thread::id thread;
  const auto take = [&](absl::StatusOr<v1::GateReport> report) {
    result = std::move(report);
    thread = std::this_thread::get_id();
    ++done;
  };
  const auto wait = [&](int count) {
    for (int i = 0; i < 60000 && done < count; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return done == count;
  };
  GateInput input = Input("pot4");
  {
    QualityGate gate(Load(), temp_.File("evaluations"));
    gate.Start(input, take);
    ASSERT_TRUE(wait(1));
    EXPECT_TRUE(result.ok()) << result.status();
    EXPECT_NE(thread, std::this_thread::get_id());
    // So much text that it is cancelled in the middle of it.
    std::string text;
    for (int i = 0; i < 2000; ++i) text += ValidationText();
    input.text.paths = {temp_.File("long")};
    WriteTo(input.text.paths[0], text);
    input.text.digests = {"long"};
    gate.Start(input, take);
    gate.Cancel();
    ASSERT_TRUE(wait(2));
    EXPECT_TRUE(absl::IsCancelled(result.status())) << result.status();
    gate.Start(input, take);
  }
  // The end of the gate is the end of what it was doing.
  EXPECT_LE(done, 3);
}

TEST_F(QualityGateTest, SaysWhatIsWrong) {
  QualityGate gate(Load(), temp_.File("evaluations"));
  GateInput input = Input("pot4");
  input.max_tokens = 1;
  EXPECT_TRUE(absl::IsInvalidArgument(gate.Evaluate(input, &Never).status()));
  input.max_tokens = 3;
  EXPECT_EQ(gate.Evaluate(input, &Never)->checkpoint().tokens(), 2);
  input.protocol.window = 65;
  EXPECT_TRUE(absl::IsInvalidArgument(gate.Evaluate(input, &Never).status()));
}

TEST(GateViolationsTest, WithoutABaseOnlyItsConditionsFail) {
  v1::CheckpointEvaluation evaluation;
  evaluation.set_perplexity(10);
  v1::QualityGate limits;
  EXPECT_TRUE(JudgeWorkersEvaluation(limits, evaluation).passed());
  limits.set_max_perplexity(10);
  EXPECT_TRUE(JudgeWorkersEvaluation(limits, evaluation).passed());
  limits.set_max_perplexity_ratio(2);
  limits.set_max_mean_kl_nats(1);
  EXPECT_EQ(JudgeWorkersEvaluation(limits, evaluation).violations_size(), 2);
  evaluation.set_perplexity(std::numeric_limits<double>::infinity());
  EXPECT_THAT(JudgeWorkersEvaluation({}, evaluation).violations(),
              ElementsAre(HasSubstr("not finite")));
}

}  // namespace
}  // namespace pot
