#include "trainer/ptq/embedding_fisher.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "engine/base/status_macros.h"
#include "trainer/base/multiversion.h"
#include "trainer/base/parallel.h"
#include "trainer/gpt2/trunk.h"
#include "trainer/math/elementary.h"
#include "trainer/math/products.h"

namespace pot {
namespace {

// Logits held at a time.
constexpr int64_t kMaxLogits = 20000000;

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
  Accumulator(const ParameterLayout& layout,
              const std::vector<float>& parameters,
              std::unique_ptr<Products<float>> products)
      : config_(layout.config()),
        parameters_(ViewParameters<const float>(layout, parameters.data())),
        products_(std::move(products)),
        trunk_(config_, TrunkOptions{}, products_.get(), nullptr),
        fisher_(config_.n_embd * config_.n_embd) {
    // All layers' gradients go to one place.
    Gpt2Config one_layer = config_;
    one_layer.n_layer = 1;
    const ParameterLayout scratch(one_layer);
    scratch_.resize(scratch.size());
    gradients_ = ViewParameters<float>(scratch, scratch_.data());
    gradients_.layers.resize(config_.n_layer, gradients_.layers[0]);
  }

  // Every token but the first is a target.
  void Add(absl::Span<const int32_t> sequence) {
    const TrunkPass pass{.sequences = 1,
                         .context = static_cast<int64_t>(sequence.size()),
                         .tokens = sequence.data(),
                         .training = true};
    const auto hidden = trunk_.Forward(parameters_, pass);
    const int64_t C = config_.n_embd;
    // The last position predicts nothing.
    dhidden_.assign(pass.rows() * C, 0.0f);
    const int64_t predictions = pass.rows() - 1;
    const int64_t step = std::max<int64_t>(1, kMaxLogits / config_.vocab_size);
    for (int64_t row = 0; row < predictions; row += step) {
      const int64_t rows = std::min(step, predictions - row);
      AddHead(hidden.data() + row * C, sequence.data() + row + 1, rows,
              dhidden_.data() + row * C);
    }
    trunk_.Backward(parameters_, pass, dhidden_.data(), gradients_);
    AddOuterProducts(trunk_.embedding_gradient().data(), pass.rows());
  }

  absl::StatusOr<std::vector<float>> Result() && {
    POT_RETURN_IF_ERROR(products_->status());
    return std::move(fisher_);
  }

 private:
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
  std::vector<float> dhidden_, logits_, weighted_;
  std::vector<float> fisher_;
};

}  // namespace

absl::StatusOr<std::vector<float>> EmbeddingFisher(
    const ParameterLayout& layout, const std::vector<float>& parameters,
    absl::Span<const int32_t> tokens, int64_t context) {
  POT_ASSIGN_OR_RETURN(std::unique_ptr<Products<float>> products,
                       Products<float>::Create(Precision::kF32));
  Accumulator accumulator(layout, parameters, std::move(products));
  const int64_t count = tokens.size();
  for (int64_t first = 0; first + context <= count; first += context) {
    accumulator.Add(tokens.subspan(first, context));
  }
  return std::move(accumulator).Result();
}

}  // namespace pot
