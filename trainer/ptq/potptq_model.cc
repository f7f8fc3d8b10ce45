#include "trainer/ptq/potptq_model.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "trainer/base/parallel.h"
#include "trainer/gpt2/layers.h"
#include "trainer/gpt2/trunk.h"
#include "trainer/optimizer/adamw.h"
#include "trainer/ptq/calibration_sequences.h"
#include "trainer/ptq/quantized_parameters.h"
#include "trainer/ptq/tuned_matrix.h"

namespace pot {
namespace {

// Tokens of a forward pass, and of a step; the paper's steps have as many.
constexpr int64_t kForwardRows = 4096, kStepRows = 2048;

class BlockTrainer {
 public:
  BlockTrainer(const ParameterLayout& layout, const PotPtqModelOptions& options,
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
        exact_(config_, TrunkOptions{}, products_.get(), nullptr),
        quantized_(config_, TrunkOptions{}, products_.get(), &activations_),
        parameters_(layout, parameters),
        progress_(progress) {
    adamw_.beta2 = 0.999;
    adamw_.weight_decay = options.potptq.lambda;
    Gpt2Config one_layer = config_;
    one_layer.n_layer = 1;
    const ParameterLayout scratch(one_layer);
    gradient_buffer_.resize(scratch.size());
    gradients_ =
        ViewParameters<float>(scratch, gradient_buffer_.data()).layers[0];
    const int64_t step = std::max<int64_t>(1, kStepRows / text.context());
    steps_per_epoch_ = (text.count() + step - 1) / step;
    for (int64_t layer = 0; layer < config_.n_layer; ++layer) {
      total_ += EpochsOf(layer) * steps_per_epoch_;
    }
  }

  absl::Status Run() {
    const int64_t C = config_.n_embd;
    POT_RETURN_IF_ERROR(QuantizeEmbeddings());
    x_.resize(text_.tokens().size() * C);
    text_.ForEachPass(kForwardRows, [&](const TrunkPass& pass, int64_t row) {
      EmbeddingForward(pass.tokens, pass.rows(), pass.context, C,
                       parameters_.View().wte, parameters_.View().wpe,
                       x_.data() + row * C);
    });
    for (int64_t layer = 0; layer < config_.n_layer; ++layer) {
      POT_RETURN_IF_ERROR(TrainLayer(layer));
      text_.ForEachPass(kForwardRows, [&](const TrunkPass& pass, int64_t row) {
        quantized_.RunLayer(parameters_.View().layers[layer], pass, layer,
                            nullptr, x_.data() + row * C);
      });
      if (options_.release_layer != nullptr) options_.release_layer(layer);
    }
    return products_->status();
  }

  PotPtqModelResult TakeResult() {
    result_.matrices = parameters_.TakeMatrices();
    return std::move(result_);
  }

 private:
  int64_t EpochsOf(int64_t layer) const {
    if (options_.potptq.epochs > 0) return options_.potptq.epochs;
    for (int product = 0; product < 4; ++product) {
      const TensorSpec& tensor =
          layout_.tensors()[parameters_.ProductIndex(layer, product)];
      if (options_.model.For(tensor).format->bits <= 2) return 40;
    }
    return 10;
  }

  absl::Status RoundAlone(int index) {
    const TensorSpec& tensor = layout_.tensors()[index];
    absl::StatusOr<PotMatrix> matrix =
        QuantizePot(parameters_.Values(index), tensor.rows(), tensor.cols(),
                    options_.model.For(tensor));
    if (!matrix.ok()) return Named(tensor, matrix.status());
    parameters_.Store(index, *std::move(matrix));
    return absl::OkStatus();
  }

  static absl::Status Named(const TensorSpec& tensor,
                            const absl::Status& status) {
    return absl::Status(status.code(),
                        absl::StrCat(tensor.name, ": ", status.message()));
  }

  absl::Status QuantizeEmbeddings() {
    POT_RETURN_IF_ERROR(RoundAlone(layout_.Find("wte.weight")));
    if (!config_.tie_word_embeddings) {
      POT_RETURN_IF_ERROR(RoundAlone(layout_.Find("lm_head.weight")));
    }
    if (options_.model.half_positions) parameters_.HalvePositions();
    return absl::OkStatus();
  }

  absl::Status TrainLayer(int64_t layer) {
    const int64_t C = config_.n_embd;
    // What the float layer makes of the same inputs.
    targets_ = x_;
    text_.ForEachPass(kForwardRows, [&](const TrunkPass& pass, int64_t row) {
      exact_.RunLayer(parameters_.View().layers[layer], pass, layer, nullptr,
                      targets_.data() + row * C);
    });
    std::vector<std::vector<float>> weights;
    std::vector<TunedMatrix> matrices;
    for (int product = 0; product < 4; ++product) {
      const int index = parameters_.ProductIndex(layer, product);
      const TensorSpec& tensor = layout_.tensors()[index];
      const absl::Span<const float> values = parameters_.Values(index);
      weights.emplace_back(values.begin(), values.end());
      absl::StatusOr<TunedMatrix> matrix =
          TunedMatrix::Create(weights.back(), tensor.rows(), tensor.cols(),
                              options_.model.For(tensor));
      if (!matrix.ok()) return Named(tensor, matrix.status());
      matrices.push_back(*std::move(matrix));
    }
    const double before = ErrorWith(layer, matrices);
    POT_RETURN_IF_ERROR(products_->status());
    if (before > 0) {
      POT_RETURN_IF_ERROR(TrainScales(layer, before, &matrices));
      double after = ErrorWith(layer, matrices);
      // Negated, so that a NaN fails too.
      if (!(after < before)) {
        for (TunedMatrix& matrix : matrices) matrix.Reset();
        after = before;
      }
      result_.error_ratios.push_back(after / before);
    } else {
      result_.error_ratios.push_back(1);
    }
    for (int product = 0; product < 4; ++product) {
      POT_ASSIGN_OR_RETURN(PotMatrix matrix, matrices[product].Export());
      parameters_.Store(parameters_.ProductIndex(layer, product),
                        std::move(matrix));
    }
    return absl::OkStatus();
  }

  // The layer's matrices become what they are under their scales.
  void UseScales(int64_t layer, const std::vector<TunedMatrix>& matrices) {
    for (int product = 0; product < 4; ++product) {
      matrices[product].Round(parameters_.ProductValues(layer, product).data());
    }
  }

  // Squared error of the layer's output over the whole text.
  double ErrorWith(int64_t layer, const std::vector<TunedMatrix>& matrices) {
    UseScales(layer, matrices);
    const int64_t C = config_.n_embd;
    double error = 0;
    text_.ForEachPass(kForwardRows, [&](const TrunkPass& pass, int64_t row) {
      const float* const x = x_.data() + row * C;
      output_.assign(x, x + pass.rows() * C);
      quantized_.RunLayer(parameters_.View().layers[layer], pass, layer,
                          nullptr, output_.data());
      for (int64_t i = 0; i < pass.rows() * C; ++i) {
        const double difference = double{output_[i]} - targets_[row * C + i];
        error += difference * difference;
      }
    });
    return error;
  }

  absl::Status TrainScales(int64_t layer, double error,
                           std::vector<TunedMatrix>* matrices) {
    const int64_t C = config_.n_embd;
    float* const weight_gradients[] = {gradients_.attn_w, gradients_.proj_w,
                                       gradients_.fc_w, gradients_.mlp_w};
    int64_t step = 0;
    bool cancelled = false;
    const auto train = [&](TrunkPass pass, int64_t row) {
      if (cancelled) return;
      pass.training = true;
      UseScales(layer, *matrices);
      const int64_t count = pass.rows() * C;
      const float* const x = x_.data() + row * C;
      output_.assign(x, x + count);
      quantized_.RunLayer(parameters_.View().layers[layer], pass, layer,
                          nullptr, output_.data());
      // Of the squared error over that of all tokens at the start, so that the
      // loss begins at 1 whatever the layer's size.
      const auto factor = static_cast<float>(
          2.0 * static_cast<double>(x_.size()) / (error * count));
      for (int64_t i = 0; i < count; ++i) {
        output_[i] = factor * (output_[i] - targets_[row * C + i]);
      }
      std::fill(gradient_buffer_.begin(), gradient_buffer_.end(), 0.0f);
      quantized_.RunLayerBackward(parameters_.View().layers[layer], pass, layer,
                                  gradients_, output_.data());
      ++step;
      for (int product = 0; product < 4; ++product) {
        (*matrices)[product].Step(
            adamw_, options_.potptq.learning_rate, step,
            {weight_gradients[product],
             parameters_.ProductValues(layer, product).size()});
      }
      ++done_;
      cancelled = progress_ != nullptr && !progress_(done_, total_);
    };
    for (int64_t epoch = 0; epoch < EpochsOf(layer); ++epoch) {
      text_.ForEachPass(kStepRows, train);
      POT_RETURN_IF_ERROR(products_->status());
    }
    return cancelled ? absl::CancelledError("quantizing was cancelled")
                     : absl::OkStatus();
  }

  const ParameterLayout& layout_;
  const Gpt2Config& config_;
  const PotPtqModelOptions& options_;
  const CalibrationSequences& text_;
  const std::unique_ptr<Products<float>> products_;
  ActivationFakeQuantizer activations_;
  Trunk<float> exact_;
  Trunk<float> quantized_;
  QuantizedParameters parameters_;
  const DataProgress& progress_;
  AdamWOptions adamw_;

  std::vector<float> gradient_buffer_;
  LayerParameters<float> gradients_;
  std::vector<float> x_;        // (tokens, C) before the layer at hand
  std::vector<float> targets_;  // (tokens, C) after the float layer
  std::vector<float> output_;   // of a pass, and its gradient
  int64_t steps_per_epoch_ = 0;
  int64_t done_ = 0, total_ = 0;
  PotPtqModelResult result_;
};

}  // namespace

absl::Status CheckPotPtqOptions(const PotPtqOptions& options) {
  const auto check = [](const char* what, double value, bool good,
                        const char* range) {
    if (good) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(what, " must be in ", range, ", not ", value));
  };
  constexpr int64_t kMaxEpochs = 10000;
  POT_RETURN_IF_ERROR(check("epochs", static_cast<double>(options.epochs),
                            options.epochs >= 0 && options.epochs <= kMaxEpochs,
                            "[0, 10000]"));
  const double rate = options.learning_rate, lambda = options.lambda;
  POT_RETURN_IF_ERROR(
      check("the learning rate", rate, rate > 0 && rate <= 1, "(0, 1]"));
  return check("lambda", lambda, lambda >= 0 && lambda <= 10, "[0, 10]");
}

absl::StatusOr<PotPtqModelResult> QuantizeModelPotPtq(
    const ParameterLayout& layout, const TokenCorpus& calibration,
    const PotPtqModelOptions& options, absl::Span<float> parameters,
    const DataProgress& progress) {
  POT_RETURN_IF_ERROR(CheckPotPtqOptions(options.potptq));
  POT_ASSIGN_OR_RETURN(const CalibrationSequences text,
                       CalibrationSequences::Create(
                           calibration, layout.config(), options.context));
  POT_ASSIGN_OR_RETURN(std::unique_ptr<Products<float>> products,
                       Products<float>::Create(Precision::kF32));
  POT_ASSIGN_OR_RETURN(
      ActivationFakeQuantizer activations,
      ActivationFakeQuantizer::Create(NumActivationSites(layout.config()),
                                      {.mode = options.activations}));
  BlockTrainer trainer(layout, options, text, std::move(products),
                       std::move(activations), parameters, progress);
  POT_RETURN_IF_ERROR(trainer.Run());
  return trainer.TakeResult();
}

}  // namespace pot
