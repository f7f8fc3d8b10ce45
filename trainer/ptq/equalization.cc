#include "trainer/ptq/equalization.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "engine/base/status_macros.h"
#include "trainer/base/parallel.h"
#include "trainer/gpt2/layers.h"
#include "trainer/gpt2/trunk.h"
#include "trainer/ptq/calibration_sequences.h"

namespace pot {
namespace {

// Tokens of a forward pass.
constexpr int64_t kRows = 4096;
// Rows that one thread rounds at a time.
constexpr int64_t kSlabRows = 16;
constexpr double kAlphas[] = {0.25, 0.5, 0.75, 1.0};
constexpr int kMaxExponent = 8, kMaxValueExponent = 4;

// A product and what its inputs come from.
struct Fold {
  const char* product;
  const char* norm;  // a LayerNorm; nullptr for V
  int input;         // as Trunk::InputObserver counts
  int max_exponent;
};
// V first: it changes rows of c_attn.
constexpr Fold kFolds[] = {
    {"attn.c_proj", nullptr, 1, kMaxValueExponent},
    {"attn.c_attn", "ln_1", 0, kMaxExponent},
    {"mlp.c_fc", "ln_2", 2, kMaxExponent},
};

// Whether value * 2^exponent is exact and a weight that quantizers take.
bool StaysExact(float value, int exponent) {
  const float scaled = std::ldexp(value, exponent);
  return std::ldexp(scaled, -exponent) == value &&
         std::fabs(scaled) <= kMaxWeight;
}

std::vector<int> ExponentsFor(const std::vector<double>& moments, double alpha,
                              int most) {
  double sum = 0;
  int64_t count = 0;
  for (const double m : moments) {
    if (!(m > 0 && std::isfinite(m))) continue;
    sum += std::log2(m);
    ++count;
  }
  std::vector<int> exponents(moments.size(), 0);
  for (size_t k = 0; k < moments.size(); ++k) {
    if (!(moments[k] > 0 && std::isfinite(moments[k]))) continue;
    const double relative =
        std::log2(moments[k]) - sum / static_cast<double>(count);
    exponents[k] = std::clamp(
        static_cast<int>(std::lround(alpha / 2 * relative)), -most, most);
  }
  return exponents;
}

class Equalizer {
 public:
  Equalizer(const ParameterLayout& layout, const QuantizeModelOptions& options,
            absl::Span<float> parameters, const DataProgress& progress)
      : layout_(layout),
        config_(layout.config()),
        options_(options),
        parameters_(parameters),
        progress_(progress) {}

  absl::Status Run(const CalibrationSequences* text) {
    if (text != nullptr) POT_RETURN_IF_ERROR(StartMeasuring(*text));
    const auto total =
        static_cast<int64_t>(std::size(kFolds)) * config_.n_layer;
    int64_t done = 0;
    for (int64_t layer = 0; layer < config_.n_layer; ++layer) {
      if (text != nullptr) {
        POT_RETURN_IF_ERROR(Measure(*text, layer));
      } else {
        Estimate(layer);
      }
      for (const Fold& fold : kFolds) {
        POT_RETURN_IF_ERROR(EqualizeProduct(layer, fold));
        if (progress_ != nullptr && !progress_(++done, total)) {
          return absl::CancelledError("equalizing was cancelled");
        }
      }
    }
    return absl::OkStatus();
  }

  EqualizationResult&& TakeResult() && { return std::move(result_); }

 private:
  std::string Name(int64_t layer, const std::string& tensor) const {
    return absl::StrCat("h.", layer, ".", tensor);
  }
  absl::Span<float> Values(const std::string& name) {
    const int index = layout_.Find(name);
    return parameters_.subspan(layout_.offset(index),
                               layout_.tensors()[index].num_elements());
  }
  LayerParameters<const float> LayerView(int64_t layer) const {
    return ViewParameters<const float>(layout_, parameters_.data())
        .layers[layer];
  }

  // moments_[input] by what the parameters alone say.
  void Estimate(int64_t layer) {
    const int64_t C = config_.n_embd;
    const LayerParameters<const float> p = LayerView(layer);
    for (std::vector<double>& moments : moments_) moments.assign(C, 0);
    for (int64_t k = 0; k < C; ++k) {
      moments_[0][k] = double{p.ln1_gain[k]} * p.ln1_gain[k] +
                       double{p.ln1_bias[k]} * p.ln1_bias[k];
      moments_[2][k] = double{p.ln2_gain[k]} * p.ln2_gain[k] +
                       double{p.ln2_bias[k]} * p.ln2_bias[k];
    }
    for (int64_t j = 0; j < C; ++j) {
      const float* const row = p.attn_w + (2 * C + j) * C;
      double mean = p.attn_b[2 * C + j], variance = 0;
      for (int64_t k = 0; k < C; ++k) {
        const double gain = double{row[k]} * p.ln1_gain[k];
        mean += double{row[k]} * p.ln1_bias[k];
        variance += gain * gain;
      }
      moments_[1][j] = variance + mean * mean;
    }
  }

  absl::Status StartMeasuring(const CalibrationSequences& text) {
    POT_ASSIGN_OR_RETURN(products_, Products<float>::Create(Precision::kF32));
    trunk_.emplace(config_, TrunkOptions{}, products_.get(), nullptr);
    const auto view = ViewParameters<const float>(layout_, parameters_.data());
    const int64_t C = config_.n_embd;
    x_.resize(text.tokens().size() * C);
    text.ForEachPass(kRows, [&](const TrunkPass& pass, int64_t row) {
      EmbeddingForward(pass.tokens, pass.rows(), pass.context, C, view.wte,
                       view.wpe, x_.data() + row * C);
    });
    return absl::OkStatus();
  }

  // moments_[input] of the layer, and x_ behind it.
  absl::Status Measure(const CalibrationSequences& text, int64_t layer) {
    const int64_t C = config_.n_embd;
    for (std::vector<double>& moments : moments_) moments.assign(C, 0);
    text.ForEachPass(kRows, [&](const TrunkPass& pass, int64_t row) {
      trunk_->RunLayer(
          LayerView(layer), pass, layer,
          [&](int product, const float* inputs, int64_t width) {
            if (product == 3) return true;
            std::vector<double>& moments = moments_[product];
            ParallelFor(width, 64, [&](int64_t first, int64_t last) {
              for (int64_t t = 0; t < pass.rows(); ++t) {
                const float* const x = inputs + t * width;
                for (int64_t k = first; k < last; ++k) {
                  moments[k] += double{x[k]} * x[k];
                }
              }
            });
            return true;
          },
          x_.data() + row * C);
    });
    const auto tokens = static_cast<double>(text.tokens().size());
    for (std::vector<double>& moments : moments_) {
      for (double& each : moments) each /= tokens;
    }
    return products_->status();
  }

  // sum_k m_k sum_n (w_nk - q_nk / d_k)^2.
  absl::StatusOr<double> ExpectedError(absl::Span<const float> weights,
                                       const TensorSpec& tensor,
                                       const std::vector<double>& moments,
                                       const std::vector<int>& exponents) {
    const QuantizeOptions quantize = options_.For(tensor);
    const int64_t rows = tensor.rows(), cols = tensor.cols();
    const bool whole = quantize.granularity.kind == Granularity::Kind::kTensor;
    const int64_t slab = whole ? rows : kSlabRows;
    std::vector<double> weight(cols);
    for (int64_t k = 0; k < cols; ++k) {
      weight[k] = std::ldexp(moments[k], -2 * exponents[k]);
    }
    const int64_t slabs = (rows + slab - 1) / slab;
    std::vector<absl::StatusOr<double>> errors(slabs, 0.0);
    ParallelFor(slabs, 1, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        const int64_t first = s * slab, count = std::min(slab, rows - first);
        errors[s] = SlabError(weights.subspan(first * cols, count * cols),
                              count, cols, quantize, weight, exponents);
      }
    });
    double total = 0;
    for (const absl::StatusOr<double>& error : errors) {
      POT_RETURN_IF_ERROR(error.status());
      total += *error;
    }
    return total;
  }

  static absl::StatusOr<double> SlabError(absl::Span<const float> weights,
                                          int64_t rows, int64_t cols,
                                          const QuantizeOptions& quantize,
                                          const std::vector<double>& weight,
                                          const std::vector<int>& exponents) {
    std::vector<float> scaled(weights.begin(), weights.end());
    for (int64_t i = 0; i < rows * cols; ++i) {
      scaled[i] = std::ldexp(scaled[i], exponents[i % cols]);
    }
    POT_ASSIGN_OR_RETURN(const PotMatrix matrix,
                         QuantizePot(scaled, rows, cols, quantize));
    std::vector<float> row(cols);
    double error = 0;
    for (int64_t n = 0; n < rows; ++n) {
      matrix.DequantizeRow(n, absl::MakeSpan(row));
      for (int64_t k = 0; k < cols; ++k) {
        const double difference = double{scaled[n * cols + k]} - row[k];
        error += weight[k] * difference * difference;
      }
    }
    return error;
  }

  absl::Status EqualizeProduct(int64_t layer, const Fold& fold) {
    const std::string name = Name(layer, absl::StrCat(fold.product, ".weight"));
    const TensorSpec& tensor = layout_.tensors()[layout_.Find(name)];
    const absl::Span<float> weights = Values(name);
    const std::vector<double>& moments = moments_[fold.input];
    std::vector<int> best(moments.size(), 0);
    POT_ASSIGN_OR_RETURN(const double before,
                         ExpectedError(weights, tensor, moments, best));
    double least = before;
    for (const double alpha : kAlphas) {
      const std::vector<int> exponents =
          ExponentsFor(moments, alpha, fold.max_exponent);
      if (!IsExact(layer, fold, weights, exponents)) continue;
      POT_ASSIGN_OR_RETURN(const double error,
                           ExpectedError(weights, tensor, moments, exponents));
      if (error < least) {
        least = error;
        best = exponents;
      }
    }
    EqualizedProduct product{.name = name};
    for (const int exponent : best) product.channels += exponent != 0;
    if (before > 0) product.error_ratio = least / before;
    if (product.channels > 0) Apply(layer, fold, weights, best);
    result_.products.push_back(std::move(product));
    return absl::OkStatus();
  }

  // Calls fn(value, channel) for all that is divided by the factors.
  template <typename Function>
  void ForEachSource(int64_t layer, const Fold& fold, const Function& fn) {
    const int64_t C = config_.n_embd;
    if (fold.norm != nullptr) {
      for (const char* part : {".weight", ".bias"}) {
        const absl::Span<float> values =
            Values(Name(layer, absl::StrCat(fold.norm, part)));
        for (int64_t k = 0; k < C; ++k) fn(values[k], k);
      }
      return;
    }
    const absl::Span<float> weights = Values(Name(layer, "attn.c_attn.weight"));
    const absl::Span<float> biases = Values(Name(layer, "attn.c_attn.bias"));
    for (int64_t j = 0; j < C; ++j) {
      for (int64_t k = 0; k < C; ++k) fn(weights[(2 * C + j) * C + k], j);
      fn(biases[2 * C + j], j);
    }
  }

  bool IsExact(int64_t layer, const Fold& fold, absl::Span<const float> weights,
               const std::vector<int>& exponents) {
    const auto cols = static_cast<int64_t>(exponents.size());
    bool exact = true;
    for (size_t i = 0; i < weights.size(); ++i) {
      exact = exact && StaysExact(weights[i], exponents[i % cols]);
    }
    ForEachSource(layer, fold, [&](float value, int64_t channel) {
      exact = exact && StaysExact(value, -exponents[channel]);
    });
    return exact;
  }

  void Apply(int64_t layer, const Fold& fold, absl::Span<float> weights,
             const std::vector<int>& exponents) {
    const auto cols = static_cast<int64_t>(exponents.size());
    for (size_t i = 0; i < weights.size(); ++i) {
      weights[i] = std::ldexp(weights[i], exponents[i % cols]);
    }
    ForEachSource(layer, fold, [&](float& value, int64_t channel) {
      value = std::ldexp(value, -exponents[channel]);
    });
    const auto keep = [&](const std::string& tensor) {
      const std::string name = Name(layer, tensor);
      const absl::Span<const float> values = Values(name);
      result_.floats[name].assign(values.begin(), values.end());
    };
    if (fold.norm != nullptr) {
      keep(absl::StrCat(fold.norm, ".weight"));
      keep(absl::StrCat(fold.norm, ".bias"));
    } else {
      keep("attn.c_attn.bias");
    }
  }

  const ParameterLayout& layout_;
  const Gpt2Config& config_;
  const QuantizeModelOptions& options_;
  const absl::Span<float> parameters_;
  const DataProgress& progress_;

  std::unique_ptr<Products<float>> products_;
  std::optional<Trunk<float>> trunk_;
  std::vector<float> x_;            // (tokens, C)
  std::vector<double> moments_[3];  // of the inputs of the layer's products
  EqualizationResult result_;
};

}  // namespace

absl::StatusOr<EqualizationResult> EqualizeModel(
    const ParameterLayout& layout, const QuantizeModelOptions& options,
    const TokenCorpus* calibration, int64_t context,
    absl::Span<float> parameters, const DataProgress& progress) {
  std::optional<CalibrationSequences> text;
  if (calibration != nullptr) {
    POT_ASSIGN_OR_RETURN(text, CalibrationSequences::Create(
                                   *calibration, layout.config(), context));
  }
  Equalizer equalizer(layout, options, parameters, progress);
  POT_RETURN_IF_ERROR(equalizer.Run(text.has_value() ? &*text : nullptr));
  return std::move(equalizer).TakeResult();
}

}  // namespace pot
