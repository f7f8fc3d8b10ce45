#include "trainer/ptq/gptq_model.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/base/status_macros.h"
#include "trainer/base/parallel.h"
#include "trainer/gpt2/layers.h"
#include "trainer/gpt2/trunk.h"
#include "trainer/ptq/calibration_sequences.h"
#include "trainer/ptq/embedding_fisher.h"
#include "trainer/ptq/quantized_parameters.h"

namespace pot {
namespace {

// Tokens of a forward pass.
constexpr int64_t kRows = 4096;
// The embedding's Fisher information is that of so many tokens, in sequences
// that are no longer.
constexpr int64_t kFisherTokens = 8192, kFisherContext = 256;

class ModelQuantizer {
 public:
  ModelQuantizer(const ParameterLayout& layout, const GptqModelOptions& options,
                 const CalibrationSequences& text,
                 std::unique_ptr<Products<float>> products,
                 ActivationFakeQuantizer activations,
                 absl::Span<float> parameters, const DataProgress& progress)
      : layout_(layout),
        config_(layout.config()),
        options_(options),
        text_(text),
        products_(std::move(products)),
        activations_(std::move(activations)),
        trunk_(config_, TrunkOptions{}, products_.get(), &activations_),
        parameters_(layout, parameters),
        progress_(progress) {}

  absl::Status Run() {
    POT_RETURN_IF_ERROR(QuantizeEmbeddings());
    POT_RETURN_IF_ERROR(QuantizeLayers());
    POT_RETURN_IF_ERROR(QuantizeHead());
    return products_->status();
  }

  GptqModelResult TakeResult() {
    result_.matrices = parameters_.TakeMatrices();
    return std::move(result_);
  }

 private:
  // Calls fn(pass, first row) for all calibration sequences, some at a time.
  template <typename Function>
  void ForEachPass(const Function& fn) const {
    text_.ForEachPass(kRows, fn);
  }

  void ClearHessian(int64_t width) {
    hessian_.assign(width * width, 0.0f);
    sums_.assign(width, 0.0f);
  }

  // hessian_ += inputs^T inputs, and sums_ the inputs themselves.
  void AddToHessian(const float* inputs, int64_t rows, int64_t width) {
    BiasBackward(inputs, rows, width, sums_.data());
    products_->Multiply({.m = width,
                         .n = width,
                         .k = rows,
                         .transpose_a = true,
                         .accumulate = true},
                        inputs, inputs, hessian_.data());
  }

  // hessian_ of the inputs less their mean, which is returned.
  std::vector<double> CenterHessian() {
    const auto tokens = static_cast<double>(text_.tokens().size());
    const int64_t width = sums_.size();
    std::vector<double> mean(width);
    for (int64_t i = 0; i < width; ++i) mean[i] = sums_[i] / tokens;
    ParallelFor(width, 16, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        for (int64_t j = 0; j < width; ++j) {
          float& value = hessian_[i * width + j];
          value = static_cast<float>(value - tokens * mean[i] * mean[j]);
        }
        // Rounding may leave less than nothing of an input that never changes.
        hessian_[i * width + i] = std::max(hessian_[i * width + i], 0.0f);
      }
    });
    return mean;
  }

  // bias += (W - Q) mean.
  void CorrectBias(int index, absl::Span<const float> weights,
                   const PotMatrix& matrix, const std::vector<double>& mean) {
    const std::string name = absl::StrReplaceAll(layout_.tensors()[index].name,
                                                 {{".weight", ".bias"}});
    float* const bias = parameters_.Values(layout_.Find(name)).data();
    const int64_t cols = matrix.cols();
    ParallelFor(matrix.rows(), 16, [&](int64_t first, int64_t last) {
      std::vector<float> quantized(cols);
      for (int64_t row = first; row < last; ++row) {
        matrix.DequantizeRow(row, absl::MakeSpan(quantized));
        double shift = 0;
        for (int64_t k = 0; k < cols; ++k) {
          shift += (double{weights[row * cols + k]} - quantized[k]) * mean[k];
        }
        bias[row] = static_cast<float>(bias[row] + shift);
      }
    });
    result_.floats[name].assign(bias, bias + matrix.rows());
  }

  absl::Status Advance() {
    ++done_;
    const int64_t total = 4 * config_.n_layer + 2;
    if (progress_ == nullptr || progress_(done_, total)) {
      return absl::OkStatus();
    }
    return absl::CancelledError("quantizing was cancelled");
  }

  // By hessian_; embedding and head have no bias.
  absl::Status RoundWithErrors(int index, bool has_bias) {
    const TensorSpec& tensor = layout_.tensors()[index];
    const bool correct = has_bias && options_.correct_biases;
    const std::vector<double> mean =
        correct ? CenterHessian() : std::vector<double>();
    const auto quantize = [&]() -> absl::StatusOr<PotMatrix> {
      POT_RETURN_IF_ERROR(products_->status());
      POT_ASSIGN_OR_RETURN(
          const GptqFactor factor,
          FactorHessian(hessian_, tensor.cols(), options_.gptq));
      result_.largest_damping =
          std::max(result_.largest_damping, factor.damping);
      return QuantizeGptq(parameters_.Values(index), tensor.rows(),
                          tensor.cols(), options_.model.For(tensor), factor,
                          products_.get(), options_.gptq.refinement_passes);
    };
    absl::StatusOr<PotMatrix> matrix = quantize();
    if (!matrix.ok()) {
      return absl::Status(
          matrix.status().code(),
          absl::StrCat(tensor.name, ": ", matrix.status().message()));
    }
    if (correct) CorrectBias(index, parameters_.Values(index), *matrix, mean);
    parameters_.Store(index, *std::move(matrix));
    return Advance();
  }

  absl::Status QuantizeEmbeddings() {
    const int64_t context = std::min(kFisherContext, text_.context());
    POT_ASSIGN_OR_RETURN(
        hessian_, EmbeddingFisher(layout_, parameters_.values(),
                                  text_.Sample(kFisherTokens, context), context,
                                  options_.release_layer));
    POT_RETURN_IF_ERROR(RoundWithErrors(layout_.Find("wte.weight"), false));
    if (options_.model.half_positions) parameters_.HalvePositions();
    return absl::OkStatus();
  }

  // Unless it is the embedding.
  absl::Status QuantizeHead() {
    if (config_.tie_word_embeddings) return Advance();
    ClearHessian(config_.n_embd);
    ForEachPass([&](const TrunkPass& pass, int64_t) {
      const auto hidden = trunk_.Forward(parameters_.View(), pass);
      AddToHessian(hidden.data(), pass.rows(), config_.n_embd);
    });
    return RoundWithErrors(layout_.Find("lm_head.weight"), false);
  }

  absl::Status QuantizeLayers() {
    const int64_t C = config_.n_embd;
    std::vector<float> x(text_.tokens().size() * C);
    ForEachPass([&](const TrunkPass& pass, int64_t row) {
      EmbeddingForward(pass.tokens, pass.rows(), pass.context, C,
                       parameters_.View().wte, parameters_.View().wpe,
                       x.data() + row * C);
    });
    for (int64_t layer = 0; layer < config_.n_layer; ++layer) {
      for (int product = 0; product < 4; ++product) {
        const int index = parameters_.ProductIndex(layer, product);
        const int64_t width = layout_.tensors()[index].cols();
        ClearHessian(width);
        ForEachPass([&](const TrunkPass& pass, int64_t row) {
          trunk_.RunLayer(
              parameters_.View().layers[layer], pass, layer,
              [&](int at, const float* inputs, int64_t inputs_width) {
                if (at != product) return true;
                AddToHessian(inputs, pass.rows(), inputs_width);
                return false;
              },
              x.data() + row * C);
        });
        POT_RETURN_IF_ERROR(RoundWithErrors(index, true));
      }
      ForEachPass([&](const TrunkPass& pass, int64_t row) {
        trunk_.RunLayer(parameters_.View().layers[layer], pass, layer, nullptr,
                        x.data() + row * C);
      });
      if (options_.release_layer != nullptr) options_.release_layer(layer);
    }
    return absl::OkStatus();
  }

  const ParameterLayout& layout_;
  const Gpt2Config& config_;
  const GptqModelOptions& options_;
  const CalibrationSequences& text_;
  const std::unique_ptr<Products<float>> products_;
  ActivationFakeQuantizer activations_;
  Trunk<float> trunk_;
  QuantizedParameters parameters_;
  const DataProgress& progress_;

  std::vector<float> hessian_;  // of the product at hand
  std::vector<float> sums_;     // of its inputs
  int64_t done_ = 0;
  GptqModelResult result_;
};

}  // namespace

absl::StatusOr<GptqModelResult> QuantizeModelGptq(
    const ParameterLayout& layout, const TokenCorpus& calibration,
    const GptqModelOptions& options, absl::Span<float> parameters,
    const DataProgress& progress) {
  POT_ASSIGN_OR_RETURN(const CalibrationSequences text,
                       CalibrationSequences::Create(
                           calibration, layout.config(), options.context));
  POT_ASSIGN_OR_RETURN(std::unique_ptr<Products<float>> products,
                       Products<float>::Create(Precision::kF32));
  POT_ASSIGN_OR_RETURN(
      ActivationFakeQuantizer activations,
      ActivationFakeQuantizer::Create(NumActivationSites(layout.config()),
                                      {.mode = options.activations}));
  ModelQuantizer quantizer(layout, options, text, std::move(products),
                           std::move(activations), parameters, progress);
  POT_RETURN_IF_ERROR(quantizer.Run());
  return quantizer.TakeResult();
}

}  // namespace pot
