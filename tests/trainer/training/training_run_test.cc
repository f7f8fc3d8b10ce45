// Training runs: the same bits whenever and however often they are resumed, and
// what they export is what the engine serves.
#include "trainer/training/training_run.h"

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/file.h"
#include "engine/gpt2/float_model.h"
#include "engine/gpt2/model_files.h"
#include "engine/kernels/kernel_table.h"
#include "engine/loaded_model.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test_paths.h"
#include "trainer/training/training_loop.h"

namespace pot {
namespace {

using ::testing::HasSubstr;

constexpr char kBase[] = POT_SOURCE_DIR "/tests/testdata/tiny-bpe";

class TrainingRunTest : public ::testing::Test {
 protected:
  TrainingRunTest()
      : directory_(
            std::filesystem::path(testing::TempDir()) /
            ("training_run_" + std::to_string(getpid()) + "_" +
             testing::UnitTest::GetInstance()->current_test_info()->name())),
        layout_(ReadGpt2Config(kBase).value()),
        corpus_(layout_.config().vocab_size),
        base_(layout_.size()) {
    std::filesystem::create_directories(directory_);
    EXPECT_TRUE(layout_.Read(kBase, absl::MakeSpan(base_)).ok());
    files_ = ReadModelFiles(kBase).value();
    tokenizer_ = LoadTokenizer(kBase, layout_.config()).value();
    corpus_ = Corpus(20);
  }
  ~TrainingRunTest() override { std::filesystem::remove_all(directory_); }

  TokenCorpus Corpus(int phrases) const {
    std::string text;
    for (int i = 0; i < phrases; ++i) {
      text += "the power of " + std::to_string(i * i) + " and the other, ";
    }
    return TokenizeText(text, *tokenizer_, {}).value();
  }

  static TrainingOptions Options() {
    TrainingOptions options;
    options.schedule = {.peak = 3e-3, .steps = 12, .warmup_steps = 2};
    options.batch = {
        .sequences = 2, .micro_batches = 2, .context = 16, .seed = 3};
    options.dropout = 0.1;
    options.loss = {.distillation_weight = 0.5, .temperature = 2};
    options.qat.emplace();
    for (FakeQuantizeOptions* weights :
         {&options.qat->weights.layers, &options.qat->weights.embedding}) {
      weights->quantize.format = FindPotFormat("pot4").value();
    }
    return options;
  }

  std::unique_ptr<TrainingRun> NewRun(const TrainingOptions& options) {
    return TrainingRun::Create(&layout_, options, &corpus_, base_, &layout_,
                               base_)
        .value();
  }

  absl::StatusOr<LossSums> Evaluate(TrainingRun* run) {
    return run->Evaluate(corpus_, {16, 16}, -1, nullptr);
  }

  // The bytes of the exponent checkpoint.
  std::string Exported(TrainingRun* run, const std::string& name) {
    EXPECT_TRUE(Evaluate(run).ok());
    const std::string to = directory_ / name;
    std::filesystem::create_directories(to);
    EXPECT_TRUE(run->ExportQuantized(files_, {}, to).ok());
    return ReadFile(to + "/" + kExponentCheckpointFile, size_t{1} << 30)
        .value();
  }

  const std::filesystem::path directory_;
  const ParameterLayout layout_;
  std::unique_ptr<const Tokenizer> tokenizer_;
  TokenCorpus corpus_;
  std::vector<float> base_;
  std::map<std::string, std::string> files_;
};

void Steps(TrainingRun* run, int count) {
  for (int i = 0; i < count; ++i) ASSERT_TRUE(run->Step().ok());
}

TEST_F(TrainingRunTest, ResumingChangesNothing) {
  std::vector<std::pair<const char*, TrainingOptions>> cases(
      5, {"follow", Options()});
  cases[0].second.qat->weights.layers.search_interval = 3;
  cases[1].first = "learned, frozen";
  cases[1].second.qat->freeze_ratio = 0.6;
  cases[2].first = "paper";
  cases[3].first = "observed";
  cases[3].second.qat->activations.mode = ActivationFakeQuantization::kObserved;
  cases[4].first = "float";
  cases[4].second.qat.reset();
  for (const int i : {1, 2}) {
    QatOptions& qat = *cases[i].second.qat;
    for (FakeQuantizeOptions* weights :
         {&qat.weights.layers, &qat.weights.embedding}) {
      weights->learned_scales = i == 1;
      if (i == 2) weights->quantize.mode = QuantizeMode::kPaper;
    }
  }
  for (const auto& [name, options] : cases) {
    SCOPED_TRACE(name);
    const std::unique_ptr<TrainingRun> straight = NewRun(options);
    Steps(straight.get(), 12);

    std::string snapshot;
    {
      const std::unique_ptr<TrainingRun> first = NewRun(options);
      Steps(first.get(), 5);
      snapshot = first->Save(directory_ / "state", {}).value();
    }
    const std::unique_ptr<TrainingRun> resumed = NewRun(options);
    ASSERT_TRUE(resumed->Restore(Snapshot::Open(snapshot).value()).ok());
    EXPECT_EQ(resumed->step(), 5);
    Steps(resumed.get(), 7);

    EXPECT_TRUE(straight->parameters() == resumed->parameters());
    if (options.qat.has_value()) {
      EXPECT_EQ(Exported(straight.get(), "a"), Exported(resumed.get(), "b"));
    }
    EXPECT_FALSE(straight->parameters() == absl::MakeConstSpan(base_));
  }
}

TEST_F(TrainingRunTest, TheEngineComputesWhatTheTrainerMeasured) {
  const TokenCorpus text = Corpus(150);
  std::vector<int32_t> tokens(text.size());
  text.Copy(0, absl::MakeSpan(tokens));
  for (const char* format : {"pot3", "twohot4"}) {
    TrainingOptions options = Options();
    options.qat->weights.layers.quantize.format = FindPotFormat(format).value();
    options.qat->weights.layers.learned_scales = true;
    const std::unique_ptr<TrainingRun> run = NewRun(options);
    Steps(run.get(), 6);
    Exported(run.get(), format);
    const LossSums sums = run->Evaluate(text, {16, 16}, -1, nullptr).value();

    const auto model = LoadModel(directory_ / format, ModelIdentity(),
                                 {.kernels = FindKernelTable("scalar").value()})
                           .value();
    ThreadPool pool(1);
    const EvaluationSums served =
        pot::Evaluate(
            *model->weights, nullptr, tokens, {16, 16},
            [](int32_t) { return 1; }, &pool, nullptr)
            .value();
    EXPECT_EQ(sums.predictions, served.tokens);
    // The limit. Keys and values are fp16 there and fp32 here, and
    // where that moves an activation across the middle of two of its 255 steps,
    // the logits differ by that step: noise that evens out over many tokens.
    EXPECT_NEAR(std::exp(sums.mean_nats()) / served.perplexity(), 1, 1e-3)
        << format;
  }
}

TEST_F(TrainingRunTest, TrainingLowersTheLoss) {
  TrainingOptions options = Options();
  options.schedule = {.peak = 3e-3, .steps = 40, .warmup_steps = 4};
  options.dropout = 0;
  const std::unique_ptr<TrainingRun> run = NewRun(options);
  const double before = Evaluate(run.get()).value().mean_nats();
  Steps(run.get(), 40);
  // From about 6 nats (a random model on a vocabulary of hundreds).
  EXPECT_LT(Evaluate(run.get()).value().mean_nats(), before - 1);
}

TEST_F(TrainingRunTest, RefusesWhatDoesNotFit) {
  TrainingOptions options = Options();
  options.batch.context = layout_.config().n_positions + 1;
  EXPECT_THAT(
      TrainingRun::Create(&layout_, options, &corpus_, base_, nullptr, {})
          .status()
          .message(),
      HasSubstr("is more than the model's limit of"));

  TokenCorpus wide(layout_.config().vocab_size + 1);
  const std::vector<int32_t> tokens(100, 1);
  ASSERT_TRUE(wide.Append(tokens).ok());
  EXPECT_THAT(
      TrainingRun::Create(&layout_, Options(), &wide, base_, nullptr, {})
          .status()
          .message(),
      HasSubstr("is larger than the model's"));

  const std::unique_ptr<TrainingRun> run = NewRun(Options());
  EXPECT_EQ(run->ExportQuantized(files_, {}, directory_).code(),
            absl::StatusCode::kFailedPrecondition);
  Steps(run.get(), 1);
  ASSERT_TRUE(Evaluate(run.get()).ok());
  Steps(run.get(), 1);
  EXPECT_EQ(run->ExportQuantized(files_, {}, directory_).code(),
            absl::StatusCode::kFailedPrecondition);

  TrainingOptions other = Options();
  other.qat.reset();
  const std::unique_ptr<TrainingRun> plain = NewRun(other);
  const std::string snapshot = run->Save(directory_ / "state", {}).value();
  EXPECT_EQ(plain->Restore(Snapshot::Open(snapshot).value()).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(TrainingRunTest, AGradientThatIsNotFiniteChangesNothing) {
  TrainingOptions options = Options();
  options.qat.reset();
  options.loss.distillation_weight = 0;
  std::vector<float> parameters = base_;
  parameters[layout_.offset(layout_.Find("h.0.mlp.c_fc.bias"))] = INFINITY;
  const auto run =
      TrainingRun::Create(&layout_, options, &corpus_, parameters, nullptr, {})
          .value();
  EXPECT_EQ(run->Step().status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(run->step(), 0);
  EXPECT_TRUE(run->parameters() == absl::MakeConstSpan(parameters));
}

// Commands by step, and a record of what happened.
class Script : public TrainingObserver {
 public:
  Script(TrainingRun* run, int64_t at, LoopCommand command)
      : run_(run), at_(at), command_(command) {}

  LoopCommand Next() override {
    return run_->step() >= at_ ? command_ : LoopCommand::kContinue;
  }
  void OnStep(const StepReport& report) override {
    steps.push_back(report.step);
  }
  absl::Status OnEvaluation(const EvaluationReport& report) override {
    evaluations.push_back(report.step);
    return absl::OkStatus();
  }
  absl::Status OnSnapshot(int64_t step, const std::string&) override {
    snapshots.push_back(step);
    return absl::OkStatus();
  }

  std::vector<int64_t> steps, evaluations, snapshots;

 private:
  TrainingRun* const run_;
  const int64_t at_;
  const LoopCommand command_;
};

using TrainingLoopTest = TrainingRunTest;
using End = LoopResult::End;

TEST_F(TrainingLoopTest, PausesAndGoesOnWithTheSameResult) {
  LoopOptions loop;
  loop.evaluate_every = 4;
  loop.evaluate_start = true;
  loop.snapshot_every = 5;
  loop.protocol = {16, 16};

  const std::unique_ptr<TrainingRun> straight = NewRun(Options());
  Script to_the_end(straight.get(), 99, LoopCommand::kContinue);
  const LoopResult whole =
      RunTrainingLoop(loop, corpus_, {}, straight.get(), &to_the_end).value();
  EXPECT_EQ(whole.end, End::kDone);
  EXPECT_EQ(to_the_end.evaluations, (std::vector<int64_t>{0, 4, 8, 12}));
  EXPECT_TRUE(to_the_end.snapshots.empty());

  loop.snapshot_directory = directory_ / "state";
  BestEvaluation best;
  for (const int64_t pause_at : {3, 4, 9}) {
    const std::unique_ptr<TrainingRun> run = NewRun(Options());
    std::vector<std::string> warnings;
    EXPECT_EQ(
        RestoreLatest(loop.snapshot_directory, run.get(), &best, &warnings)
            .value(),
        pause_at != 3);
    Script script(run.get(), pause_at, LoopCommand::kPause);
    const LoopResult part =
        RunTrainingLoop(loop, corpus_, best, run.get(), &script).value();
    EXPECT_EQ(part.end, End::kPaused);
    EXPECT_EQ(run->step(), pause_at);
    EXPECT_EQ(script.snapshots.back(), pause_at);
  }
  const std::unique_ptr<TrainingRun> run = NewRun(Options());
  ASSERT_TRUE(RestoreLatest(loop.snapshot_directory, run.get(), &best, nullptr)
                  .value());
  Script script(run.get(), 99, LoopCommand::kContinue);
  const LoopResult rest =
      RunTrainingLoop(loop, corpus_, best, run.get(), &script).value();
  EXPECT_EQ(script.steps, (std::vector<int64_t>{10, 11, 12}));
  EXPECT_EQ(script.evaluations, (std::vector<int64_t>{12}));
  EXPECT_EQ(rest.best.step, whole.best.step);
  EXPECT_EQ(rest.best.nats, whole.best.nats);
  EXPECT_EQ(Exported(run.get(), "a"), Exported(straight.get(), "b"));
}

TEST_F(TrainingLoopTest, ObeysCommandsAndPatience) {
  LoopOptions loop;
  loop.evaluate_every = 4;
  loop.protocol = {16, 16};
  {
    const std::unique_ptr<TrainingRun> run = NewRun(Options());
    Script script(run.get(), 6, LoopCommand::kStopEarly);
    const LoopResult result =
        RunTrainingLoop(loop, corpus_, {}, run.get(), &script).value();
    EXPECT_EQ(result.end, End::kStoppedEarly);
    EXPECT_EQ(script.evaluations, (std::vector<int64_t>{4, 6}));
  }
  {
    const std::unique_ptr<TrainingRun> run = NewRun(Options());
    Script script(run.get(), 4, LoopCommand::kCancel);
    const LoopResult result =
        RunTrainingLoop(loop, corpus_, {}, run.get(), &script).value();
    EXPECT_EQ(result.end, End::kCancelled);
    EXPECT_EQ(run->step(), 4);
    EXPECT_TRUE(script.evaluations.empty());
  }
  {
    // A rate that cannot improve what it starts from.
    TrainingOptions options = Options();
    options.schedule.peak = 1e-12;
    options.qat.reset();
    loop.evaluate_every = 1;
    loop.patience = 3;
    const std::unique_ptr<TrainingRun> run = NewRun(options);
    Script script(run.get(), 99, LoopCommand::kContinue);
    const BestEvaluation unreachable = {.step = 0, .nats = 0};
    const LoopResult result =
        RunTrainingLoop(loop, corpus_, unreachable, run.get(), &script).value();
    EXPECT_EQ(result.end, End::kStoppedEarly);
    EXPECT_EQ(run->step(), 3);
  }
  loop.evaluate_every = 0;
  const std::unique_ptr<TrainingRun> run = NewRun(Options());
  Script script(run.get(), 99, LoopCommand::kContinue);
  EXPECT_THAT(
      RunTrainingLoop(loop, corpus_, {}, run.get(), &script).status().message(),
      HasSubstr("not every 0"));
}

}  // namespace
}  // namespace pot
