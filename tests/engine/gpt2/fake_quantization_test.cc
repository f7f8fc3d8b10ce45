// What the engine computes in integers is what fake quantization, floats that
// went through the grid, computes: the papers' and training's arithmetic.
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/checkpoint/exponent_checkpoint.h"
#include "engine/gpt2/evaluation.h"
#include "engine/gpt2/model_files.h"
#include "engine/gpt2/tensor_table.h"
#include "engine/kernels/linear.h"
#include "gtest/gtest.h"
#include "tests/engine/gpt2/model_testing.h"

namespace pot {
namespace {

// A quantized layer as quantization-aware training and the papers see it:
// floats that went through the grid, weights and inputs alike.
class FakeQuantizedLinear : public Linear {
 public:
  FakeQuantizedLinear(const PotMatrix& matrix, std::vector<float> bias) {
    std::vector<float> weights(matrix.rows() * matrix.cols());
    for (int64_t n = 0; n < matrix.rows(); ++n) {
      matrix.DequantizeRow(
          n, absl::MakeSpan(weights).subspan(n * matrix.cols(), matrix.cols()));
    }
    linear_ = MakeFloatLinear(weights, matrix.rows(), matrix.cols(), false,
                              std::move(bias))
                  .value();
  }

  int64_t inputs() const override { return linear_->inputs(); }
  int64_t outputs() const override { return linear_->outputs(); }
  int64_t resident_bytes() const override { return linear_->resident_bytes(); }
  void WeightRow(int64_t output, absl::Span<float> weights) const override {
    linear_->WeightRow(output, weights);
  }
  absl::Status Forward(const float* x, int64_t rows, float* y,
                       ThreadPool* pool) const override {
    std::vector<float> rounded(rows * inputs());
    std::vector<int8_t> a(inputs());
    for (int64_t row = 0; row < rows; ++row) {
      const ActivationScale scale = QuantizeActivation(
          x + row * inputs(), inputs(), ActivationMode::kAffine, a.data());
      for (int64_t k = 0; k < inputs(); ++k) {
        rounded[row * inputs() + k] =
            scale.scale * static_cast<float>(a[k] - scale.zero_point);
      }
    }
    return linear_->Forward(rounded.data(), rows, y, pool);
  }

 private:
  std::unique_ptr<const Linear> linear_;
};

// The model in `directory` with all its matrices fake-quantized.
std::unique_ptr<const ModelWeights> LoadFakeQuantized(
    const std::string& directory) {
  const auto checkpoint =
      ExponentCheckpoint::Open(directory + "/" + kExponentCheckpointFile)
          .value();
  const auto loaded = MustLoad(directory, BestKernels());
  std::map<std::string, TensorSpec> table;
  for (const TensorSpec& tensor : Gpt2Tensors(loaded->config)) {
    table.emplace(tensor.name, tensor);
  }
  const auto fake = [&](const std::string& name, bool bias) {
    const TensorSpec& tensor = table.at(name + ".weight");
    std::vector<float> values;
    if (bias) {
      values = checkpoint->ReadFloats(name + ".bias", {tensor.rows()}).value();
    }
    return std::make_unique<FakeQuantizedLinear>(
        checkpoint->Matrix(tensor.name, tensor.rows(), tensor.cols()).value(),
        std::move(values));
  };
  auto weights = std::make_unique<ModelWeights>();
  weights->config = loaded->config;
  weights->kernels = loaded->kernels;
  weights->ln_f = loaded->ln_f;
  weights->position_embedding = loaded->position_embedding;
  for (int64_t i = 0; i < loaded->config.n_layer; ++i) {
    const std::string h = absl::StrCat("h.", i, ".");
    LayerWeights layer;
    layer.ln_1 = loaded->layers[i].ln_1;
    layer.ln_2 = loaded->layers[i].ln_2;
    layer.attn_c_attn = fake(h + "attn.c_attn", true);
    layer.attn_c_proj = fake(h + "attn.c_proj", true);
    layer.mlp_c_fc = fake(h + "mlp.c_fc", true);
    layer.mlp_c_proj = fake(h + "mlp.c_proj", true);
    weights->layers.push_back(std::move(layer));
  }
  weights->head = fake("wte", false);
  return weights;
}

TEST(EngineArithmeticTest, PerplexityIsThatOfFakeQuantization) {
  const std::string model = DeployedFile("models/shakespeare-char/1");
  // Text that the model finds likely: rounding of logits of random tokens shows
  // more in their perplexity than anything that is compared here.
  const auto text = ReadFile(DeployedFile("sample.txt"), 1 << 20);
  ASSERT_TRUE(text.ok()) << text.status();
  std::vector<int32_t> tokens;
  const auto tokenizer =
      LoadTokenizer(model, MustLoad(model, BestKernels())->config).value();
  ASSERT_TRUE(tokenizer->Encode(*text, &tokens).ok());
  ASSERT_GE(tokens.size(), 2000u);
  ThreadPool pool(2);
  for (const char* format : {"pot4", "pot4-strict", "twohot4", "pot3"}) {
    for (const char* granularity : {"row", "g64", "g64p2"}) {
      QuantizeModelOptions options =
          MakeModelOptions(format, granularity, QuantizeMode::kNearest);
      options.layers.outliers = options.embedding.outliers = 0.001;
      const TempDirectory directory;
      MustQuantize(model, directory.path(), options);
      const auto perplexity = [&](const ModelWeights& weights) {
        return Evaluate(
                   weights, nullptr, tokens, {64, 64},
                   [](int32_t) { return int64_t{1}; }, &pool, nullptr)
            .value()
            .perplexity();
      };
      const double engine =
          perplexity(*MustLoad(directory.path(), BestKernels()));
      const double fake = perplexity(*LoadFakeQuantized(directory.path()));
      // The bound that the project promises.
      EXPECT_NEAR(engine / fake, 1, 0.001) << format << " " << granularity;
    }
  }
}

}  // namespace
}  // namespace pot
