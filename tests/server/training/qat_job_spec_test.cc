#include "server/training/qat_job_spec.h"

#include <map>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"
#include "server/training/qat_job_estimate.h"
#include "server/training/qat_job_texts.h"
#include "tests/server/training/job_testing.h"

namespace pot {
namespace {

using ::google::protobuf::util::MessageDifferencer;
using ::testing::HasSubstr;

v1::QatJobSpec Parse(const std::string& text) {
  v1::QatJobSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec))
      << text;
  return spec;
}

Gpt2Config Base() {
  Gpt2Config config;
  config.n_layer = 2;
  config.n_head = 4;
  config.n_embd = 32;
  config.n_inner = 128;
  config.n_positions = 64;
  config.vocab_size = 100;
  return config;
}

const std::string kDigest(64, 'a');
const std::string kData = "data { datasets { sha256: '" + kDigest + "' } } ";
const std::string kLeast = kData + "quantization { format: 'pot4' } ";

TEST(QatJobSpecTest, EveryDefaultIsAsTheProtoSays) {
  v1::QatJobSpec spec = Parse(kLeast);
  const absl::Status status = FillQatJobSpec(Base(), "base", &spec);
  ASSERT_TRUE(status.ok()) << status;
  v1::QatJobSpec expected = Parse(kLeast);
  expected.MergeFrom(Parse(R"(
      data { holdout_ratio: 0.1 }
      quantization { granularity: 'row' method: 'nearest'
                     embedding_format: 'pot4' embedding_granularity: 'row' }
      activations: ACTIVATION_QUANTIZATION_AFFINE
      optimizer { learning_rate: 2e-4 beta1: 0.9 beta2: 0.95 epsilon: 1e-8
                  weight_decay: 0 clip_norm: 1 }
      schedule { steps: 2000 warmup_steps: 40 shape: SCHEDULE_SHAPE_COSINE
                 final_ratio: 0 patience_evaluations: 0 }
      batch { sequences: 12 accumulation: 1 context: 64 }
      loss { positions: LOSS_POSITIONS_ALL cross_entropy_weight: 1 }
      straight_through: STRAIGHT_THROUGH_CLIPPED
      dropout: 0 seed: 0
      evaluation { every_steps: 100 window: 64 stride: 64 }
      snapshots { every_steps: 100 keep_checkpoints: 3 }
      publish { name: 'base' alias: 'default' })"));
  EXPECT_TRUE(MessageDifferencer::Equals(spec, expected)) << spec.DebugString();
  // What is filled in is valid and stays.
  v1::QatJobSpec again = spec;
  ASSERT_TRUE(FillQatJobSpec(Base(), "base", &again).ok());
  EXPECT_TRUE(MessageDifferencer::Equals(again, spec));
}

TEST(QatJobSpecTest, DefaultsOfWhatIsOptional) {
  v1::QatJobSpec spec = Parse(R"(
      data { self_generated {} } quantization { format: 'twohot4' }
      distillation {} learned_scales {} code_freeze {}
      publish { auto_rollback {} } schedule { steps: 5 })");
  const absl::Status status = FillQatJobSpec(Base(), "base", &spec);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(spec.data().self_generated().tokens(), 1048576);
  EXPECT_EQ(spec.data().self_generated().temperature(), 1);
  EXPECT_EQ(spec.data().self_generated().greedy_prefix_tokens(), 4);
  EXPECT_EQ(spec.distillation().weight(), 1);
  EXPECT_EQ(spec.distillation().temperature(), 1);
  EXPECT_EQ(spec.learned_scales().learning_rate_ratio(), 10);
  EXPECT_EQ(spec.code_freeze().final_ratio(), 0.1);
  EXPECT_EQ(spec.publish().auto_rollback().window_seconds(), 300);
  EXPECT_EQ(spec.publish().auto_rollback().max_error_ratio(), 0.05);
  EXPECT_EQ(spec.publish().auto_rollback().min_calls(), 20);
  EXPECT_EQ(spec.schedule().warmup_steps(), 0);
  EXPECT_EQ(spec.evaluation().every_steps(), 1);
}

TEST(QatJobSpecTest, RefusesWhatIsOutsideItsLimits) {
  const struct {
    std::string text;   // merged into kLeast
    const char* field;  // without "spec."
    const char* message;
  } cases[] = {
      {"batch { context: 1 }", "batch.context",
       "must be in [2, 64]; the given value is 1"},
      {"batch { context: 65 }", "batch.context", "[2, 64]"},
      {"batch { sequences: 0 }", "batch.sequences", "[1, 4096]"},
      {"batch { accumulation: 4097 }", "batch.accumulation", "4097"},
      {"data { datasets { sha256: 'AB' } }", "data.datasets.sha256[1]",
       "64 lower-case hexadecimal digits; it is \"AB\""},
      {"data { validation_sha256: 'x' }", "data.validation_sha256", "\"x\""},
      {"data { holdout_ratio: 0 }", "data.holdout_ratio",
       "must be in (0, 0.5]; the given value is 0"},
      {"data { holdout_ratio: nan }", "data.holdout_ratio", "nan"},
      {"data { self_generated { tokens: 255 } }", "data.self_generated.tokens",
       "[256, "},
      {"data { self_generated { temperature: 0 } }",
       "data.self_generated.temperature", "(0, 10]"},
      {"data { self_generated { greedy_prefix_tokens: 64 } }",
       "data.self_generated.greedy_prefix_tokens", "[0, 63]"},
      {"quantization { format: 'f32' }", "quantization.format", "f32"},
      {"quantization { format: 'pot9' }", "quantization.format", "twohot4"},
      {"quantization { granularity: 'g63' }", "quantization.granularity",
       "g63"},
      {"quantization { method: 'best' }", "quantization.method", "best"},
      {"quantization { format: 'twohot4' method: 'paper' }",
       "quantization.format", "paper"},
      {"quantization { embedding_format: 'f32' }",
       "quantization.embedding_format", "f32"},
      {"quantization { embedding_granularity: 'x' }",
       "quantization.embedding_granularity", "x"},
      {"activations: 77", "activations", "77"},
      {"optimizer { learning_rate: 0 }", "optimizer.learning_rate", "(0, 1]"},
      {"optimizer { learning_rate: 1.0000001 }", "optimizer.learning_rate",
       "the given value is 1.0000001"},
      {"optimizer { beta1: 1 }", "optimizer.beta1", "[0, 1)"},
      {"optimizer { beta2: -0.1 }", "optimizer.beta2", "[0, 1)"},
      {"optimizer { epsilon: inf }", "optimizer.epsilon", "inf"},
      {"optimizer { weight_decay: 2 }", "optimizer.weight_decay", "[0, 1]"},
      {"optimizer { clip_norm: -1 }", "optimizer.clip_norm", "[0, inf)"},
      {"schedule { steps: 0 }", "schedule.steps", "[1, 10000000]"},
      {"schedule { steps: 10 warmup_steps: 11 }", "schedule.warmup_steps",
       "[0, 10]"},
      {"schedule { shape: 9 }", "schedule.shape", "9"},
      {"schedule { final_ratio: 1.5 }", "schedule.final_ratio", "[0, 1]"},
      {"schedule { patience_evaluations: -1 }", "schedule.patience_evaluations",
       "-1"},
      {"loss { positions: 3 }", "loss.positions", "3"},
      {"loss { cross_entropy_weight: -1 }", "loss.cross_entropy_weight",
       "[0, inf)"},
      {"loss { cross_entropy_weight: 0 }", "loss.cross_entropy_weight",
       "the loss would be 0"},
      {"loss { cross_entropy_weight: 0 } distillation { weight: 0 }",
       "loss.cross_entropy_weight", "the loss would be 0"},
      {"distillation { weight: -1 }", "distillation.weight", "[0, inf)"},
      {"distillation { temperature: 101 }", "distillation.temperature",
       "(0, 100]"},
      {"straight_through: 5", "straight_through", "5"},
      {"learned_scales { learning_rate_ratio: 0 }",
       "learned_scales.learning_rate_ratio", "(0, 1000]"},
      {"code_freeze { final_ratio: 0 }", "code_freeze.final_ratio", "(0, 1]"},
      {"dropout: 1", "dropout", "[0, 1)"},
      {"precision: 3", "precision", "3"},
      {"evaluation { every_steps: 0 }", "evaluation.every_steps", "[1, "},
      {"evaluation { window: 65 }", "evaluation.window", "[1, 64]"},
      {"evaluation { window: 8 stride: 9 }", "evaluation.stride", "[1, 8]"},
      {"evaluation { max_tokens: 1 }", "evaluation.max_tokens", "[2, "},
      {"snapshots { every_steps: -5 }", "snapshots.every_steps", "-5"},
      {"snapshots { keep_checkpoints: 101 }", "snapshots.keep_checkpoints",
       "[1, 100]"},
      {"gate { max_perplexity_ratio: 0 }", "gate.max_perplexity_ratio",
       "(0, inf)"},
      {"gate { max_perplexity: 0.5 }", "gate.max_perplexity", "[1, inf)"},
      {"gate { max_mean_kl_nats: -1 }", "gate.max_mean_kl_nats", "[0, inf)"},
      {"gate { min_top1_agreement: 1.1 }", "gate.min_top1_agreement", "[0, 1]"},
      {"publish { name: '../x' }", "publish.name", "../x"},
      {"publish { alias: '7' }", "publish.alias", "7"},
      {"publish { auto_rollback { window_seconds: 86401 } }",
       "publish.auto_rollback.window_seconds", "(0, 86400]"},
      {"publish { auto_rollback { max_error_ratio: 0 } }",
       "publish.auto_rollback.max_error_ratio", "(0, 1]"},
      {"publish { auto_rollback { min_calls: 0 } }",
       "publish.auto_rollback.min_calls", "[1, "},
  };
  for (const auto& [text, field, message] : cases) {
    v1::QatJobSpec spec = Parse(kLeast);
    // Repeated fields are added to, as by a client.
    spec.MergeFrom(Parse(text));
    const absl::Status status = FillQatJobSpec(Base(), "base", &spec);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_EQ(Reason(status), "INVALID_FIELD") << text;
    if (status.ok()) continue;
    EXPECT_EQ(GetDetails(status)->field, absl::StrCat("spec.", field));
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << text;
  }
  for (const auto& [text, field] : std::map<std::string, std::string>{
           {"quantization { format: 'pot4' }", "spec.data.source"},
           {kData, "spec.quantization.format"}}) {
    v1::QatJobSpec spec = Parse(text);
    const absl::Status status = FillQatJobSpec(Base(), "base", &spec);
    EXPECT_EQ(Reason(status), "MISSING_FIELD") << text;
    EXPECT_EQ(GetDetails(status)->field, field);
  }
  v1::QatJobSpec spec = Parse(kLeast);
  for (int i = 0; i < 64; ++i) {
    spec.mutable_data()->mutable_datasets()->add_sha256(kDigest);
  }
  EXPECT_THAT(std::string(FillQatJobSpec(Base(), "base", &spec).message()),
              HasSubstr("spec.data.datasets.sha256 must be in [1, 64]"));
}

class QatJobTextsTest : public ::testing::Test {
 protected:
  // 'a' and 'b', a pair of them, and the bytes of "ä".
  static std::unique_ptr<const Tokenizer> TwoLetters() {
    auto tokenizer = Tokenizer::FromVocabAndMerges(
        R"({"a":0,"b":1,"ab":2,"Ã":3,"¤":4})", "#version: 0.2\na b\n");
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return *std::move(tokenizer);
  }
  absl::StatusOr<JobTokens> Check(const std::string& spec_text) {
    v1::QatJobSpec spec = Parse("quantization { format: 'pot4' } " + spec_text);
    EXPECT_TRUE(FillQatJobSpec(Base(), "base", &spec).ok());
    return CheckJobTexts(spec, *TwoLetters(), [&](absl::string_view sha256) {
      return absl::StrCat(directory_.path(), "/", sha256);
    });
  }
  void Write(char digit, const std::string& text) {
    WriteText(absl::StrCat(directory_.path(), "/", std::string(64, digit)),
              text);
  }
  static std::string Digest(char digit) { return std::string(64, digit); }

  TempDirectory directory_;
};

TEST_F(QatJobTextsTest, CountsTheTokensOfEitherPart) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "ab";
  Write('1', text);
  Write('2', text);
  const std::string both =
      absl::StrCat("data { datasets { sha256: '", Digest('1'), "' sha256: '",
                   Digest('2'), "' } holdout_ratio: 0.25 ");
  auto tokens = Check(both + "}");
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(tokens->training, 1500);
  EXPECT_EQ(tokens->validation, 500);
  Write('3', text.substr(0, 200));
  tokens =
      Check(absl::StrCat(both, "validation_sha256: '", Digest('3'), "' }"));
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(tokens->training, 2000);
  EXPECT_EQ(tokens->validation, 100);
  // Beyond kExactTextBytes by their beginning, which here is exact.
  std::string large;
  while (large.size() < 3 * kExactTextBytes) large += text;
  Write('4', large);
  tokens = Check(absl::StrCat("data { datasets { sha256: '", Digest('4'),
                              "' } validation_sha256: '", Digest('3'), "' }"));
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(tokens->training, static_cast<int64_t>(large.size() / 2));
  tokens = Check("data { self_generated { tokens: 1000 } }");
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(tokens->training, 900);
}

TEST_F(QatJobTextsTest, SaysWhichCharacterTheVocabularyLacksAndWhere) {
  const std::string data =
      absl::StrCat("data { datasets { sha256: '", Digest('1'), "' sha256: '",
                   Digest('2'), "' } }");
  Write('1', std::string(500, 'a'));
  // "ä" is known; "å" shares its first byte only.
  Write('2', absl::StrCat(std::string(500, 'b'), "ääå"));
  const absl::Status status = Check(data).status();
  EXPECT_EQ(Reason(status), "UNKNOWN_TOKEN") << status;
  EXPECT_EQ(GetDetails(status)->field, "spec.data.datasets.sha256[1]");
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("the character \"å\" (U+00E5) at byte 504"));
  Write('2', absl::StrCat("\n", std::string(500, 'b')));
  EXPECT_THAT(std::string(Check(data).status().message()),
              HasSubstr("the character \"\\n\" (U+000A) at byte 0"));
}

TEST_F(QatJobTextsTest, NeedsOneWindowInEitherPart) {
  const std::string data =
      absl::StrCat("data { datasets { sha256: '", Digest('1'), "' } ");
  // 650 * 0.1 = 65: just enough for one window of 64, in bytes and tokens.
  Write('1', std::string(650, 'a'));
  ASSERT_TRUE(Check(data + "}").ok()) << Check(data + "}").status();
  Write('1', std::string(640, 'a'));
  absl::Status status = Check(data + "}").status();
  EXPECT_EQ(Reason(status), "INVALID_DATASET");
  EXPECT_EQ(GetDetails(status)->metadata["limit"], "65");
  EXPECT_EQ(GetDetails(status)->metadata["value"], "64");
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("has 64 tokens to validate on"));
  Write('2', std::string(650, 'a'));
  Write('1', std::string(64, 'a'));
  status = Check(absl::StrCat(data, "validation_sha256: '", Digest('2'), "' }"))
               .status();
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("has 64 tokens to train on, but one window of 64 "
                        "needs at least 65"));
}

TEST(QatJobEstimateTest, FollowsItsFormula) {
  v1::QatJobSpec spec =
      Parse(kLeast +
            "schedule { steps: 100 } batch { sequences: 8 accumulation: 3 "
            "context: 16 }");
  ASSERT_TRUE(FillQatJobSpec(Base(), "base", &spec).ok());
  const int64_t parameters = Base().num_parameters();
  // The newest run is not the median.
  const ThroughputSample samples[] = {
      {parameters, 9e9}, {parameters / 2, 4000}, {parameters, 1}};
  v1::JobEstimate estimate = EstimateQatJob(spec, Base(), 9600, 400, samples);
  EXPECT_EQ(estimate.steps(), 100);
  EXPECT_EQ(estimate.tokens_per_step(), 8 * 3 * 16);
  EXPECT_DOUBLE_EQ(estimate.epochs(), 4.0);
  EXPECT_EQ(estimate.memory_bytes(),
            20 * parameters + 4 * 128 * 2 * (320 + 256 + 2 * 4 * 16) +
                4 * 128 * 100 * 2 + 4 * 10000);
  EXPECT_NEAR(estimate.duration_seconds(), 38400 / 2000.0, 1e-3);
  EXPECT_FALSE(EstimateQatJob(spec, Base(), 1, 1, {}).has_duration_seconds());
  spec.mutable_distillation();
  EXPECT_EQ(EstimateQatMemory(spec, Base(), 10000) - estimate.memory_bytes(),
            4 * parameters + 4 * 128 * 100);
}

}  // namespace
}  // namespace pot
