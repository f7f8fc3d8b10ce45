#include "trainer/ptq/embedding_fisher.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "engine/base/status_macros.h"
#include "trainer/base/multiversion.h"
#include "trainer/base/parallel.h"
#include "trainer/gpt2/layers.h"
#include "trainer/gpt2/trunk.h"
#include "trainer/math/elementary.h"
#include "trainer/math/products.h"

namespace pot {
namespace {

// Logits held at a time.
constexpr int64_t kMaxLogits = 20000000;
// Elements of the residual streams held at a time: 1 GiB.
constexpr int64_t kMaxStreams = int64_t{1} << 28;

// logits[count] become the gradient of -log p(target), whose square's sum is
// returned.
POT_MULTIVERSION float LossGradient(int64_t count, int32_t target,
                                    float* logits) {
  const float most = LaneMax(logits, count);
  const float sum = LaneSum<float>(
      count, [=](int64_t i) { return VectorExp(logits[i] - most); });
  const float lse = most + std::log(sum);
  for (int64_t i = 0; i < count; ++i) logits[i] = VectorExp(logits[i] - lse);
  logits[target] -= 1.0f;
  return LaneSum<float>(count,
                        [=](int64_t i) { return logits[i] * logits[i]; });
}

class Accumulator {
 public:
  Accumulator(const ParameterLayout& layout, absl::Span<const float> parameters,
              std::unique_ptr<Products<float>> products,
              const std::function<void(int64_t)>& release_layer)
      : config_(layout.config()),
        parameters_(ViewParameters<const float>(layout, parameters.data())),
        products_(std::move(products)),
        trunk_(config_, TrunkOptions{}, products_.get(), nullptr),
        release_layer_(release_layer),
        fisher_(config_.n_embd * config_.n_embd) {
    // All layers' gradients go to one place.
    Gpt2Config one_layer = config_;
    one_layer.n_layer = 1;
    const ParameterLayout scratch(one_layer);
    scratch_.resize(scratch.size());
    gradients_ = ViewParameters<float>(scratch, scratch_.data());
  }

  // tokens[count][context]; every token of a sequence but the first is a
  // target.
  void Add(const int32_t* tokens, int64_t count, int64_t context) {
    const int64_t C = config_.n_embd, size = context * C;
    const auto pass = [&](int64_t sequence, bool training) {
      return TrunkPass{.sequences = 1,
                       .context = context,
                       .tokens = tokens + sequence * context,
                       .training = training};
    };
    // Before each layer, and after the last.
    std::vector<std::vector<float>> x(config_.n_layer + 1);
    x[0].resize(count * size);
    EmbeddingForward(tokens, count * context, context, C, parameters_.wte,
                     parameters_.wpe, x[0].data());
    for (int64_t layer = 0; layer < config_.n_layer; ++layer) {
      x[layer + 1] = x[layer];
      for (int64_t i = 0; i < count; ++i) {
        trunk_.RunLayer(parameters_.layers[layer], pass(i, false), layer,
                        nullptr, x[layer + 1].data() + i * size);
      }
      if (release_layer_ != nullptr) release_layer_(layer);
    }
    std::vector<float> gradient(count * size);
    for (int64_t i = 0; i < count; ++i) {
      AddSequence(x.back().data() + i * size, tokens + i * context, context,
                  gradient.data() + i * size);
    }
    for (int64_t layer = config_.n_layer; layer-- > 0;) {
      for (int64_t i = 0; i < count; ++i) {
        // Once more, for what the way back needs.
        trunk_.RunLayer(parameters_.layers[layer], pass(i, true), layer,
                        nullptr, x[layer].data() + i * size);
        trunk_.RunLayerBackward(parameters_.layers[layer], pass(i, true), layer,
                                gradients_.layers[0],
                                gradient.data() + i * size);
      }
      if (release_layer_ != nullptr) release_layer_(layer);
    }
    AddOuterProducts(gradient.data(), count * context);
  }

  absl::StatusOr<std::vector<float>> Result() && {
    POT_RETURN_IF_ERROR(products_->status());
    return std::move(fisher_);
  }

 private:
  // The head on x[rows][C], the residual stream after the last layer, whose
  // gradient it leaves in dx.
  void AddSequence(const float* x, const int32_t* tokens, int64_t rows,
                   float* dx) {
    const int64_t C = config_.n_embd;
    hidden_.resize(rows * C);
    mean_.resize(rows);
    rstd_.resize(rows);
    LayerNormForward(x, rows, C, parameters_.lnf_gain, parameters_.lnf_bias,
                     config_.layer_norm_epsilon, hidden_.data(), mean_.data(),
                     rstd_.data());
    // The last position predicts nothing.
    dhidden_.assign(rows * C, 0.0f);
    const int64_t predictions = rows - 1;
    const int64_t step = std::max<int64_t>(1, kMaxLogits / config_.vocab_size);
    for (int64_t row = 0; row < predictions; row += step) {
      AddHead(hidden_.data() + row * C, tokens + row + 1,
              std::min(step, predictions - row), dhidden_.data() + row * C);
    }
    LayerNormBackward(dhidden_.data(), x, mean_.data(), rstd_.data(), rows, C,
                      parameters_.lnf_gain, dx, gradients_.lnf_gain,
                      gradients_.lnf_bias);
  }

  void AddHead(const float* hidden, const int32_t* targets, int64_t rows,
               float* dhidden) {
    const int64_t C = config_.n_embd, V = config_.vocab_size;
    logits_.resize(rows * V);
    products_->Multiply({.m = rows, .n = V, .k = C, .transpose_b = true},
                        hidden, parameters_.head, logits_.data());
    weighted_.resize(rows * C);
    ParallelFor(rows, 1, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        const float weight =
            std::sqrt(LossGradient(V, targets[row], logits_.data() + row * V));
        for (int64_t i = row * C; i < (row + 1) * C; ++i) {
          weighted_[i] = weight * hidden[i];
        }
      }
    });
    products_->Multiply({.m = rows, .n = C, .k = V}, logits_.data(),
                        parameters_.head, dhidden);
    if (config_.tie_word_embeddings) AddOuterProducts(weighted_.data(), rows);
  }

  // fisher_ += sum of x x^T.
  void AddOuterProducts(const float* x, int64_t rows) {
    const int64_t C = config_.n_embd;
    products_->Multiply(
        {.m = C, .n = C, .k = rows, .transpose_a = true, .accumulate = true}, x,
        x, fisher_.data());
  }

  const Gpt2Config& config_;
  const ModelParameters<const float> parameters_;
  const std::unique_ptr<Products<float>> products_;
  Trunk<float> trunk_;
  // The parameters' gradients, which nobody asks for.
  std::vector<float> scratch_;
  ModelParameters<float> gradients_;
  const std::function<void(int64_t)>& release_layer_;
  std::vector<float> hidden_, mean_, rstd_;
  std::vector<float> dhidden_, logits_, weighted_;
  std::vector<float> fisher_;
};

}  // namespace

absl::StatusOr<std::vector<float>> EmbeddingFisher(
    const ParameterLayout& layout, absl::Span<const float> parameters,
    absl::Span<const int32_t> tokens, int64_t context,
    const std::function<void(int64_t)>& release_layer) {
  POT_ASSIGN_OR_RETURN(std::unique_ptr<Products<float>> products,
                       Products<float>::Create(Precision::kF32));
  Accumulator accumulator(layout, parameters, std::move(products),
                          release_layer);
  const Gpt2Config& config = layout.config();
  const int64_t count = static_cast<int64_t>(tokens.size()) / context;
  const int64_t step = std::max<int64_t>(
      1, kMaxStreams / (context * config.n_embd * (config.n_layer + 1)));
  for (int64_t first = 0; first < count; first += step) {
    accumulator.Add(tokens.data() + first * context,
                    std::min(step, count - first), context);
  }
  return std::move(accumulator).Result();
}

}  // namespace pot
