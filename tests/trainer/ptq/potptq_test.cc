// PoTPTQ's step 2: Gamma against PyTorch (potptq_goldens.json, made by
// make_potptq_goldens.py), and whole models against the engine.
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/gpt2/evaluation.h"
#include "engine/gpt2/float_model.h"
#include "engine/gpt2/model_files.h"
#include "engine/kernels/kernel_table.h"
#include "engine/loaded_model.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "test_paths.h"
#include "trainer/ptq/potptq_model.h"
#include "trainer/ptq/tuned_matrix.h"
#include "trainer/training/evaluate_text.h"

namespace pot {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kRows = 4, kCols = 80;
constexpr char kBase[] = POT_SOURCE_DIR "/tests/testdata/tiny-bpe";

// The formula of make_potptq_goldens.py.
float Value(int64_t a, int64_t b) {
  const int64_t mixed = (a * 7919 + b * 104729 + (a + 3) * (b + 7) * 31) % 4093;
  return static_cast<float>(mixed) / 4096.0f - 0.5f;
}

QuantizeOptions Options(const std::string& format, const char* granularity) {
  QuantizeOptions options;
  options.format = *FindPotFormat(format);
  options.granularity = *Granularity::Parse(granularity);
  options.mode = QuantizeMode::kPotPtq;
  return options;
}

TEST(TunedMatrixTest, GammaEqualsPyTorchs) {
  std::ifstream file(POT_SOURCE_DIR "/tests/trainer/ptq/potptq_goldens.json");
  const nlohmann::json goldens = nlohmann::json::parse(file);
  std::vector<float> w(kRows * kCols);
  for (int64_t i = 0; i < kRows * kCols; ++i) {
    w[i] = Value(i / kCols + 500, i % kCols);
  }
  for (const auto& [format, golden] : goldens.items()) {
    auto matrix = TunedMatrix::Create(w, kRows, kCols, Options(format, "g32"));
    ASSERT_TRUE(matrix.ok()) << matrix.status();
    std::vector<float> effective(w.size()), gradient(w.size());
    for (int step = 1; step <= 6; ++step) {
      matrix->Round(effective.data());
      for (int64_t i = 0; i < kRows * kCols; ++i) {
        const float importance = 1.0f + Value(i % kCols, i / kCols);
        gradient[i] = importance * (effective[i] - w[i]);
      }
      matrix->Step({.beta2 = 0.999, .weight_decay = 0.1}, 0.05, step,
                   absl::MakeSpan(gradient));
    }
    const auto expected = golden.get<std::vector<double>>();
    ASSERT_EQ(matrix->gamma().size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      // Six steps of at most 0.05; float sums of 32 products.
      EXPECT_NEAR(matrix->gamma()[i], expected[i], 1e-5) << format << " " << i;
    }
    matrix->Round(effective.data());
    const auto exported = matrix->Export();
    ASSERT_TRUE(exported.ok()) << exported.status();
    std::vector<float> row(kCols);
    for (int64_t r = 0; r < kRows; ++r) {
      exported->DequantizeRow(r, absl::MakeSpan(row));
      EXPECT_EQ(row, std::vector<float>(effective.begin() + r * kCols,
                                        effective.begin() + (r + 1) * kCols));
    }
  }
}

class PotPtqModelTest : public testing::Test {
 protected:
  PotPtqModelTest()
      : directory_(std::filesystem::path(testing::TempDir()) /
                   ("potptq_" + std::to_string(getpid()))),
        layout_(ReadGpt2Config(kBase).value()),
        parameters_(layout_.size()),
        tokenizer_(LoadTokenizer(kBase, layout_.config()).value()) {
    std::filesystem::create_directories(directory_);
    EXPECT_TRUE(layout_.Read(kBase, absl::MakeSpan(parameters_)).ok());
  }
  ~PotPtqModelTest() override { std::filesystem::remove_all(directory_); }

  TokenCorpus Corpus(int phrases) const {
    std::string text;
    for (int i = 0; i < phrases; ++i) {
      text += "the power of " + std::to_string(i * i) + " and the other, ";
    }
    return TokenizeText(text, *tokenizer_, {}).value();
  }

  static PotPtqModelOptions ModelOptions(const char* granularity) {
    PotPtqModelOptions options;
    options.model.layers = Options("pot2-strict", granularity);
    options.model.embedding = Options("pot4", "row");
    options.potptq = {.epochs = 8, .learning_rate = 0.01};
    options.context = 16;
    return options;
  }

  const std::filesystem::path directory_;
  const ParameterLayout layout_;
  std::vector<float> parameters_;
  std::unique_ptr<const Tokenizer> tokenizer_;
};

TEST_F(PotPtqModelTest, LowersEveryBlocksErrorAndTheEngineComputesTheSame) {
  const PotPtqModelOptions options = ModelOptions("g32");
  int64_t done = 0;
  const auto result = QuantizeModelPotPtq(layout_, Corpus(20), options,
                                          absl::MakeSpan(parameters_),
                                          [&](int64_t now, int64_t total) {
                                            EXPECT_EQ(now, ++done);
                                            EXPECT_LE(now, total);
                                            return true;
                                          });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GT(done, 0);
  ASSERT_EQ(result->error_ratios.size(), 3u);
  for (const double ratio : result->error_ratios) EXPECT_LT(ratio, 0.98);

  QuantizeModelOptions model = options.model;
  model.matrices = &result->matrices;
  ThreadPool pool(1);
  ASSERT_TRUE(QuantizeModel(kBase, directory_, model, &pool, nullptr).ok());
  const auto loaded = LoadModel(directory_, ModelIdentity(),
                                {.kernels = FindKernelTable("scalar").value(),
                                 .activations = ActivationMode::kFloat})
                          .value();
  const TokenCorpus text = Corpus(60);
  std::vector<int32_t> tokens(text.size());
  text.Copy(0, absl::MakeSpan(tokens));
  const EvaluationSums served = pot::Evaluate(
                                    *loaded->weights, nullptr, tokens, {16, 16},
                                    [](int32_t) { return 1; }, &pool, nullptr)
                                    .value();

  auto activations = ActivationFakeQuantizer::Create(
                         NumActivationSites(layout_.config()),
                         {.mode = ActivationFakeQuantization::kFloat})
                         .value();
  const auto objective =
      Objective<float>::Create(&layout_, TrunkOptions{}, Precision::kF32,
                               &activations, nullptr, {})
          .value();
  objective->SetParameters(parameters_);
  const LossSums sums =
      EvaluateText(text, {16, 16}, -1, nullptr, objective.get()).value();
  EXPECT_EQ(sums.predictions, served.tokens);
  // Half the limit: keys and values are fp16 there and fp32 here. With
  // 8-bit activations the same could move one of them by a step, which evens
  // out over longer texts only.
  EXPECT_NEAR(std::exp(sums.mean_nats()) / served.perplexity(), 1, 5e-4);
}

TEST_F(PotPtqModelTest, StopsWhenToldTo) {
  const auto result = QuantizeModelPotPtq(
      layout_, Corpus(20), ModelOptions("tensor"), absl::MakeSpan(parameters_),
      [](int64_t done, int64_t) { return done < 3; });
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
}

TEST_F(PotPtqModelTest, RefusesWhatIsOutOfRange) {
  PotPtqModelOptions options = ModelOptions("row");
  options.potptq.learning_rate = 0;
  auto result = QuantizeModelPotPtq(layout_, Corpus(20), options,
                                    absl::MakeSpan(parameters_), nullptr);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("(0, 1]"));
  options = ModelOptions("row");
  options.context = 1 << 20;
  result = QuantizeModelPotPtq(layout_, Corpus(20), options,
                               absl::MakeSpan(parameters_), nullptr);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace pot
