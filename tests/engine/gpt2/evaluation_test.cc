#include "engine/gpt2/evaluation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "engine/gpt2/forward.h"
#include "engine/gpt2/tensor_table.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/gpt2/model_testing.h"

namespace pot {
namespace {

// A prediction as (first token of its window, predicted token).
using Prediction = std::pair<int32_t, int32_t>;

// The protocol's definition, window by window over the whole text.
std::vector<Prediction> ByDefinition(int64_t tokens, int64_t window,
                                     int64_t stride) {
  std::vector<Prediction> predictions;
  int64_t done = 0;  // tokens up to here are predicted; the first never is
  for (int64_t begin = 0; begin < tokens; begin += stride) {
    const int64_t last = std::min(begin + window, tokens - 1);
    for (int64_t t = std::max(begin, done) + 1; t <= last; ++t) {
      predictions.push_back({begin, t});
    }
    done = std::max(done, last);
  }
  return predictions;
}

TEST(WindowCutterTest, EveryTokenButTheFirstIsPredictedOnce) {
  for (int64_t n = 0; n <= 17; ++n) {
    std::vector<int32_t> tokens(n);
    std::iota(tokens.begin(), tokens.end(), 0);
    for (int64_t window = 1; window <= 6; ++window) {
      for (int64_t stride = 1; stride <= window; ++stride) {
        for (const int64_t piece : {1, 4, 100}) {
          WindowCutter cutter({window, stride});
          std::vector<WindowCutter::Window> windows;
          for (int64_t at = 0; at < n; at += piece) {
            const auto more =
                cutter.Push(absl::MakeConstSpan(tokens).subspan(at, piece));
            windows.insert(windows.end(), more.begin(), more.end());
          }
          const auto rest = cutter.Finish();
          windows.insert(windows.end(), rest.begin(), rest.end());

          std::vector<Prediction> predictions;
          for (const auto& w : windows) {
            EXPECT_LE(w.tokens.size(), window + 1);
            for (size_t i = w.first_counted; i + 1 < w.tokens.size(); ++i) {
              predictions.push_back({w.tokens[0], w.tokens[i + 1]});
            }
          }
          EXPECT_EQ(predictions, ByDefinition(n, window, stride))
              << n << " tokens, window " << window << ", stride " << stride
              << ", pieces of " << piece;
        }
      }
    }
  }
}

TEST(WindowCutterTest, CanBeUsedAgainAfterFinish) {
  WindowCutter cutter({4, 2});
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6};
  const auto first = cutter.Push(tokens);
  cutter.Finish();
  const auto second = cutter.Push(tokens);
  ASSERT_EQ(first.size(), second.size());
  EXPECT_EQ(first[0].first_counted, second[0].first_counted);
  EXPECT_EQ(first[0].tokens, second[0].tokens);
}

double LogSoftmax(const float* logits, int64_t count, int64_t at) {
  const double top = *std::max_element(logits, logits + count);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += std::exp(logits[i] - top);
  return logits[at] - top - std::log(sum);
}

TEST(AddPredictionTest, SumsFollowTheirDefinitions) {
  const std::vector<float> p = {1.0f, -2.0f, 0.5f};
  const std::vector<float> q = {0.25f, 3.0f, -1.0f};
  EvaluationSums sums;
  AddPrediction(0, p, q, 2, &sums);
  AddPrediction(1, p, p, 3, &sums);

  const double n0 = -LogSoftmax(p.data(), 3, 0);
  const double n1 = -LogSoftmax(p.data(), 3, 1);
  const double r0 = -LogSoftmax(q.data(), 3, 0);
  double kl = 0;
  for (int i = 0; i < 3; ++i) {
    const double log_q = LogSoftmax(q.data(), 3, i);
    kl += std::exp(log_q) * (log_q - LogSoftmax(p.data(), 3, i));
  }
  // LogSumExp errs by 2e-7 at most; each figure holds up to four of them.
  constexpr double kTolerance = 1e-6;
  EXPECT_EQ(sums.tokens, 2);
  EXPECT_EQ(sums.bytes, 5);
  EXPECT_NEAR(sums.nats, n0 + n1, kTolerance);
  EXPECT_NEAR(sums.nats_squared, n0 * n0 + n1 * n1, 10 * kTolerance);
  EXPECT_NEAR(sums.kl, kl, kTolerance);
  EXPECT_EQ(sums.top1_agreements, 1);
  EXPECT_NEAR(sums.reference_nats, r0 + n1, kTolerance);
  EXPECT_NEAR(sums.difference_squared, (n0 - r0) * (n0 - r0), 10 * kTolerance);

  const double mean = (n0 + n1) / 2;
  EXPECT_NEAR(sums.mean_nats(), mean, kTolerance);
  EXPECT_NEAR(sums.perplexity(), std::exp(mean), 10 * kTolerance);
  EXPECT_NEAR(sums.bits_per_byte(), (n0 + n1) / std::log(2.0) / 5, kTolerance);
  // Two values: the population's deviation is half their distance.
  EXPECT_NEAR(sums.standard_error(), std::abs(n0 - n1) / 2 / std::sqrt(2),
              10 * kTolerance);
  EXPECT_NEAR(sums.difference_standard_error(),
              std::abs(n0 - r0) / 2 / std::sqrt(2), 10 * kTolerance);
}

TEST(EvaluationSumsTest, NothingPredictedIsNoDivisionByZero) {
  const EvaluationSums sums;
  EXPECT_EQ(sums.mean_nats(), 0);
  EXPECT_EQ(sums.perplexity(), 1);
  EXPECT_EQ(sums.bits_per_byte(), 0);
  EXPECT_EQ(sums.standard_error(), 0);
  EXPECT_EQ(sums.difference_standard_error(), 0);
}

int64_t TokenBytes(int32_t id) { return id % 3 + 1; }

std::vector<int32_t> RandomTokens(int64_t count) {
  std::mt19937 random(3);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = random() % 300;
  return tokens;
}

void AddWindow(const WindowCutter::Window& window,
               absl::Span<const float> logits,
               absl::Span<const float> reference, int64_t V,
               EvaluationSums* sums) {
  const int64_t predictions = window.tokens.size() - 1;
  for (int64_t i = window.first_counted; i < predictions; ++i) {
    const int32_t target = window.tokens[i + 1];
    AddPrediction(target, logits.subspan(i * V, V),
                  reference.empty() ? reference : reference.subspan(i * V, V),
                  TokenBytes(target), sums);
  }
}

// Window by window, whole, with nothing of Evaluate() but AddPrediction().
EvaluationSums EvaluatePlainly(const ModelWeights& weights,
                               const ModelWeights* reference,
                               absl::Span<const int32_t> tokens,
                               EvaluationProtocol protocol, ThreadPool* pool) {
  EvaluationSums sums;
  WindowCutter cutter(protocol);
  auto windows = cutter.Push(tokens);
  for (auto& window : cutter.Finish()) windows.push_back(window);
  for (const auto& window : windows) {
    const auto run = [&](const ModelWeights& model) {
      auto cache = KvCache::Create(
          model.config, model.quantized ? KvType::kF16 : KvType::kF32,
          protocol.window, std::make_shared<KvBudget>(int64_t{1} << 30));
      ForwardScratch scratch;
      std::vector<float> logits;
      EXPECT_TRUE(Forward(model,
                          {{cache->get(),
                            absl::MakeConstSpan(window.tokens)
                                .first(window.tokens.size() - 1),
                            ForwardSpan::Logits::kAll}},
                          pool, &scratch, &logits)
                      .ok());
      return logits;
    };
    AddWindow(window, run(weights),
              reference == nullptr ? std::vector<float>() : run(*reference),
              weights.config.vocab_size, &sums);
  }
  return sums;
}

// A vocabulary so large that a step holds 20 rows of logits: windows of 50 run
// in chunks, and one whose beginning is not counted skips the head there.
TEST(EvaluateLongWindowsTest, ChunksOfAWindowChangeNothing) {
  EditableModel model;
  model.config_json =
      R"({"n_layer": 1, "n_head": 2, "n_embd": 8, "n_positions": 50,
          "vocab_size": 200000})";
  const auto config = Gpt2Config::Parse(model.config_json, "config");
  ASSERT_TRUE(config.ok()) << config.status();
  std::mt19937 random(4);
  std::normal_distribution<float> normal;
  for (const TensorSpec& tensor : Gpt2Tensors(*config)) {
    std::vector<float> values(tensor.num_elements());
    for (float& value : values) value = normal(random);
    const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
    model.tensors[tensor.name] = {
        TensorType::kF32, tensor.shape,
        std::vector<uint8_t>(bytes, bytes + 4 * values.size())};
  }
  TempDirectory from, to;
  model.Write(from.path());
  MustQuantize(from.path(), to.path(),
               MakeModelOptions("pot4", "tensor", QuantizeMode::kPaper));
  const auto weights = MustLoad(to.path(), BestKernels());
  ThreadPool pool(2);
  const std::vector<int32_t> tokens = RandomTokens(60);
  const EvaluationProtocol protocol = {50, 30};
  const auto sums =
      Evaluate(*weights, nullptr, tokens, protocol, TokenBytes, &pool, nullptr);
  ASSERT_TRUE(sums.ok()) << sums.status();
  const EvaluationSums plain =
      EvaluatePlainly(*weights, nullptr, tokens, protocol, &pool);
  EXPECT_EQ(sums->tokens, 59);
  EXPECT_EQ(sums->nats, plain.nats);
  EXPECT_EQ(sums->bytes, plain.bytes);
}

class EvaluateTest : public testing::Test {
 protected:
  EvaluateTest() {
    MustQuantize(TinyBpeDirectory(), quantized_.path(),
                 MakeModelOptions("pot4", "row", QuantizeMode::kNearest));
    pot_ = MustLoad(quantized_.path(), BestKernels());
  }

  absl::StatusOr<EvaluationSums> Run(EvaluationProtocol protocol,
                                     const ModelWeights* reference) {
    return Evaluate(*pot_, reference, tokens_, protocol, TokenBytes, &pool_,
                    nullptr);
  }

  TempDirectory quantized_;
  std::unique_ptr<const ModelWeights> pot_;
  std::unique_ptr<const ModelWeights> float_ =
      MustLoad(TinyBpeDirectory(), BestKernels());
  std::vector<int32_t> tokens_ = RandomTokens(333);
  ThreadPool pool_{2};
};

TEST_F(EvaluateTest, BatchesOfWindowsChangeNothing) {
  for (const EvaluationProtocol protocol :
       {EvaluationProtocol{64, 64}, {64, 20}, {7, 3}, {1, 1}}) {
    const auto sums = Run(protocol, float_.get());
    ASSERT_TRUE(sums.ok()) << sums.status();
    const EvaluationSums plain =
        EvaluatePlainly(*pot_, float_.get(), tokens_, protocol, &pool_);
    EXPECT_EQ(sums->tokens, 332);
    EXPECT_EQ(sums->bytes, plain.bytes);
    // PoT logits are bitwise the same in any batch.
    EXPECT_EQ(sums->nats, plain.nats);
    EXPECT_EQ(sums->nats_squared, plain.nats_squared);
    // fp32 logits are within some 1e-5, and so is each of 332 predictions.
    EXPECT_NEAR(sums->reference_nats, plain.reference_nats, 332 * 1e-4);
    EXPECT_NEAR(sums->kl, plain.kl, 332 * 1e-4);
    EXPECT_GT(sums->kl, 0);
  }
}

TEST_F(EvaluateTest, AModelAgreesWithItself) {
  const auto sums = Run({32, 32}, pot_.get());
  ASSERT_TRUE(sums.ok()) << sums.status();
  EXPECT_EQ(sums->kl, 0);
  EXPECT_EQ(sums->top1_agreements, sums->tokens);
  EXPECT_EQ(sums->reference_nats, sums->nats);
  EXPECT_EQ(sums->difference_standard_error(), 0);
}

TEST_F(EvaluateTest, ShortTexts) {
  for (const size_t n : {0, 1, 2, 5}) {
    tokens_.resize(n);
    const auto sums = Run({64, 64}, nullptr);
    ASSERT_TRUE(sums.ok()) << sums.status();
    EXPECT_EQ(sums->tokens, n == 0 ? 0 : n - 1);
  }
}

TEST_F(EvaluateTest, RefusesAProtocolOutsideTheModel) {
  const auto message = [&](EvaluationProtocol protocol) {
    const auto sums = Run(protocol, nullptr);
    EXPECT_EQ(sums.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(sums.status().message());
  };
  EXPECT_EQ(message({65, 1}),
            "window must be 1 to the model's context of 64, not 65");
  EXPECT_EQ(message({0, 0}),
            "window must be 1 to the model's context of 64, not 0");
  EXPECT_EQ(message({8, 9}), "stride must be 1 to the window of 8, not 9");
  EXPECT_EQ(message({8, 0}), "stride must be 1 to the window of 8, not 0");
  tokens_[7] = 300;
  EXPECT_THAT(message({8, 8}), testing::HasSubstr("300"));
}

TEST_F(EvaluateTest, RefusesLogitsThatAreNotFinite) {
  EditableModel model = EditableModel::TinyBpe();
  EditableModel::Tensor& gain = model.tensors.at("transformer.ln_f.weight");
  gain.type = TensorType::kF32;
  const std::vector<float> huge(gain.shape[0], 3e38f);
  const auto* bytes = reinterpret_cast<const uint8_t*>(huge.data());
  gain.bytes.assign(bytes, bytes + huge.size() * sizeof(float));
  TempDirectory directory;
  model.Write(directory.path());
  const auto broken = MustLoad(directory.path(), BestKernels());
  EXPECT_EQ(
      Evaluate(*broken, nullptr, tokens_, {8, 8}, TokenBytes, &pool_, nullptr)
          .status()
          .code(),
      absl::StatusCode::kDataLoss);
  EXPECT_EQ(Run({8, 8}, broken.get()).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST_F(EvaluateTest, ProgressEndsAtTheTotalAndCanCancel) {
  std::vector<int64_t> done;
  const auto run = [&](bool go_on) {
    return Evaluate(
        *pot_, nullptr, tokens_, {4, 4}, [](int32_t) { return 1; }, &pool_,
        [&](int64_t tokens, int64_t total) {
          EXPECT_EQ(total, 332);
          done.push_back(tokens);
          return go_on;
        });
  };
  ASSERT_TRUE(run(true).ok());
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_EQ(done.back(), 332);
  done.clear();
  EXPECT_EQ(run(false).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(done.size(), 1);
}

}  // namespace
}  // namespace pot
