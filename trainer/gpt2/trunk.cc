#include "trainer/gpt2/trunk.h"

#include <algorithm>

#include "trainer/gpt2/layers.h"

namespace pot {
namespace {

// Sites of dropout: the embeddings, then three per layer.
constexpr int64_t kEmbeddingSite = 0;
int64_t ProbabilitySite(int64_t layer) { return 1 + 3 * layer; }
int64_t AttentionSite(int64_t layer) { return 2 + 3 * layer; }
int64_t MlpSite(int64_t layer) { return 3 + 3 * layer; }

}  // namespace

template <typename T>
Trunk<T>::Trunk(const Gpt2Config& config, const TrunkOptions& options,
                Products<T>* products, ActivationFakeQuantizer* quantizer)
    : config_(config),
      options_(options),
      products_(products),
      quantizer_(quantizer),
      attention_(products) {}

template <typename T>
absl::Span<const T> Trunk<T>::Forward(
    const ModelParameters<const T>& parameters, const TrunkPass& pass) {
  const int64_t rows = pass.rows(), C = config_.n_embd;
  Resize(pass, pass.training ? config_.n_layer : 1);
  // x: the residual stream. A layer reads it from its state and leaves what it
  // made of it in x_.
  EmbeddingForward(pass.tokens, rows, pass.context, C, parameters.wte,
                   parameters.wpe, x_.data());
  DropoutAt(pass, kEmbeddingSite, x_.data());
  for (int64_t layer = 0; layer < config_.n_layer; ++layer) {
    LayerState& state = layers_[pass.training ? layer : 0];
    std::copy_n(x_.begin(), rows * C, state.x.begin());
    LayerForward(parameters.layers[layer], pass, layer, nullptr, &state);
  }
  LayerNormForward(x_.data(), rows, C, parameters.lnf_gain, parameters.lnf_bias,
                   config_.layer_norm_epsilon, hidden_.data(), mean_.data(),
                   rstd_.data());
  Quantize(4 * config_.n_layer, pass, C, &hidden_, &inside_);
  return absl::MakeConstSpan(hidden_).subspan(0, rows * C);
}

template <typename T>
void Trunk<T>::RunLayer(const LayerParameters<const T>& parameters,
                        const TrunkPass& pass, int64_t layer,
                        const InputObserver& observe, T* x) {
  const int64_t count = pass.rows() * config_.n_embd;
  Resize(pass, 1);
  std::copy_n(x, count, layers_[0].x.begin());
  if (LayerForward(parameters, pass, layer, observe, &layers_[0])) {
    std::copy_n(x_.begin(), count, x);
  }
}

template <typename T>
void Trunk<T>::RunLayerBackward(const LayerParameters<const T>& parameters,
                                const TrunkPass& pass, int64_t layer,
                                const LayerParameters<T>& gradients, T* dx) {
  LayerBackward(parameters, pass, layer, layers_[0], gradients, dx);
}

template <typename T>
bool Trunk<T>::LayerForward(const LayerParameters<const T>& p,
                            const TrunkPass& pass, int64_t layer,
                            const InputObserver& observe, LayerState* s) {
  const int64_t B = pass.sequences, T_ = pass.context, rows = pass.rows();
  const int64_t C = config_.n_embd, I = config_.n_inner;
  const int64_t H = config_.n_head, D = config_.head_size();
  const float epsilon = config_.layer_norm_epsilon;

  // x_mid = x + proj(attention(ln1(x)))
  LayerNormForward(s->x.data(), rows, C, p.ln1_gain, p.ln1_bias, epsilon,
                   s->ln1.data(), s->mean1.data(), s->rstd1.data());
  if (!QuantizeInputs(layer, 0, pass, C, &s->ln1, &s->inside[0], observe)) {
    return false;
  }
  LinearForward(s->ln1.data(), p.attn_w, p.attn_b, rows, C, 3 * C,
                wide_.data());
  SplitHeads(wide_.data(), B, T_, H, D, s->q.data(), s->k.data(), s->v.data());
  attention_.Forward(ShapeOfAttention(pass, layer), s->q.data(), s->k.data(),
                     s->v.data(), narrow_.data());
  MergeHeads(narrow_.data(), B, T_, H, D, s->attention.data());
  if (!QuantizeInputs(layer, 1, pass, C, &s->attention, &s->inside[1],
                      observe)) {
    return false;
  }
  LinearForward(s->attention.data(), p.proj_w, p.proj_b, rows, C, C,
                s->x_mid.data());
  DropoutAt(pass, AttentionSite(layer), s->x_mid.data());
  Add(s->x.data(), rows * C, s->x_mid.data());

  // x = x_mid + mlp(ln2(x_mid))
  LayerNormForward(s->x_mid.data(), rows, C, p.ln2_gain, p.ln2_bias, epsilon,
                   s->ln2.data(), s->mean2.data(), s->rstd2.data());
  if (!QuantizeInputs(layer, 2, pass, C, &s->ln2, &s->inside[2], observe)) {
    return false;
  }
  LinearForward(s->ln2.data(), p.fc_w, p.fc_b, rows, C, I, s->fc.data());
  GeluForward(s->fc.data(), rows * I, config_.activation, s->gelu.data());
  if (!QuantizeInputs(layer, 3, pass, I, &s->gelu, &s->inside[3], observe)) {
    return false;
  }
  LinearForward(s->gelu.data(), p.mlp_w, p.mlp_b, rows, I, C, x_.data());
  DropoutAt(pass, MlpSite(layer), x_.data());
  Add(s->x_mid.data(), rows * C, x_.data());
  return true;
}

template <typename T>
void Trunk<T>::Backward(const ModelParameters<const T>& parameters,
                        const TrunkPass& pass, T* dhidden,
                        const ModelParameters<T>& gradients) {
  const int64_t rows = pass.rows(), C = config_.n_embd;
  QuantizeBackward(inside_, rows * C, dhidden);
  // narrow_: the gradient of the residual stream.
  std::fill_n(narrow_.begin(), rows * C, T{0});
  LayerNormBackward(dhidden, x_.data(), mean_.data(), rstd_.data(), rows, C,
                    parameters.lnf_gain, narrow_.data(), gradients.lnf_gain,
                    gradients.lnf_bias);
  for (int64_t layer = config_.n_layer; layer-- > 0;) {
    LayerBackward(parameters.layers[layer], pass, layer, layers_[layer],
                  gradients.layers[layer], narrow_.data());
  }
  DropoutAt(pass, kEmbeddingSite, narrow_.data());
  EmbeddingBackward(pass.tokens, rows, pass.context, C, narrow_.data(),
                    gradients.wte, gradients.wpe);
}

template <typename T>
void Trunk<T>::LayerBackward(const LayerParameters<const T>& p,
                             const TrunkPass& pass, int64_t layer,
                             const LayerState& s, const LayerParameters<T>& g,
                             T* dx) {
  const int64_t B = pass.sequences, T_ = pass.context, rows = pass.rows();
  const int64_t C = config_.n_embd, I = config_.n_inner;
  const int64_t H = config_.n_head, D = config_.head_size();
  T* const branch = narrow2_.data();  // gradient within a branch
  T* const wide = wide_.data();

  // x = x_mid + dropout(mlp(gelu(fc(ln2(x_mid)))))
  std::copy_n(dx, rows * C, branch);
  DropoutAt(pass, MlpSite(layer), branch);
  LinearBackward(branch, s.gelu.data(), p.mlp_w, rows, I, C, wide, g.mlp_w,
                 g.mlp_b);
  QuantizeBackward(s.inside[3], rows * I, wide);
  GeluBackward(s.fc.data(), rows * I, config_.activation, wide);
  LinearBackward(wide, s.ln2.data(), p.fc_w, rows, C, I, branch, g.fc_w,
                 g.fc_b);
  QuantizeBackward(s.inside[2], rows * C, branch);
  LayerNormBackward(branch, s.x_mid.data(), s.mean2.data(), s.rstd2.data(),
                    rows, C, p.ln2_gain, dx, g.ln2_gain, g.ln2_bias);

  // x_mid = x + dropout(proj(attention(ln1(x))))
  std::copy_n(dx, rows * C, branch);
  DropoutAt(pass, AttentionSite(layer), branch);
  LinearBackward(branch, s.attention.data(), p.proj_w, rows, C, C, wide,
                 g.proj_w, g.proj_b);
  QuantizeBackward(s.inside[1], rows * C, wide);
  UnmergeHeads(wide, B, T_, H, D, branch);
  attention_.Backward(ShapeOfAttention(pass, layer), s.q.data(), s.k.data(),
                      s.v.data(), branch, dq_.data(), dk_.data(), dv_.data());
  JoinHeads(dq_.data(), dk_.data(), dv_.data(), B, T_, H, D, wide);
  LinearBackward(wide, s.ln1.data(), p.attn_w, rows, C, 3 * C, branch, g.attn_w,
                 g.attn_b);
  QuantizeBackward(s.inside[0], rows * C, branch);
  LayerNormBackward(branch, s.x.data(), s.mean1.data(), s.rstd1.data(), rows, C,
                    p.ln1_gain, dx, g.ln1_gain, g.ln1_bias);
}

template <typename T>
void Trunk<T>::LinearForward(const T* x, const T* weight, const T* bias,
                             int64_t rows, int64_t inputs, int64_t outputs,
                             T* y) {
  products_->Multiply(
      {.m = rows, .n = outputs, .k = inputs, .transpose_b = true}, x, weight,
      y);
  BiasForward(bias, rows, outputs, y);
}

template <typename T>
void Trunk<T>::LinearBackward(const T* dy, const T* x, const T* weight,
                              int64_t rows, int64_t inputs, int64_t outputs,
                              T* dx, T* dweight, T* dbias) {
  products_->Multiply({.m = outputs,
                       .n = inputs,
                       .k = rows,
                       .transpose_a = true,
                       .accumulate = true},
                      dy, x, dweight);
  BiasBackward(dy, rows, outputs, dbias);
  products_->Multiply({.m = rows, .n = inputs, .k = outputs}, dy, weight, dx);
}

template <typename T>
AttentionShape Trunk<T>::ShapeOfAttention(const TrunkPass& pass,
                                          int64_t layer) const {
  return {.matrices = pass.sequences * config_.n_head,
          .context = pass.context,
          .head_size = config_.head_size(),
          .dropout = pass.training ? options_.dropout : 0,
          .dropout_key = {pass.dropout_seed, pass.dropout_step,
                          static_cast<uint32_t>(ProbabilitySite(layer))}};
}

template <typename T>
void Trunk<T>::DropoutAt(const TrunkPass& pass, int64_t site, T* x) const {
  if (!pass.training) return;
  Dropout({pass.dropout_seed, pass.dropout_step, static_cast<uint32_t>(site)},
          options_.dropout, 0, pass.rows() * config_.n_embd, x);
}

template <typename T>
void Trunk<T>::Quantize(int64_t site, const TrunkPass& pass, int64_t width,
                        std::vector<T>* x, std::vector<uint8_t>* inside) {
  if (quantizer_ == nullptr) return;
  const bool masked = pass.training && quantizer_->needs_mask();
  if (masked) inside->resize(pass.rows() * width);
  quantizer_->Forward(static_cast<int>(site), pass.training, x->data(),
                      pass.rows(), width, masked ? inside->data() : nullptr);
}

template <typename T>
bool Trunk<T>::QuantizeInputs(int64_t layer, int product, const TrunkPass& pass,
                              int64_t width, std::vector<T>* x,
                              std::vector<uint8_t>* inside,
                              const InputObserver& observe) {
  Quantize(4 * layer + product, pass, width, x, inside);
  return observe == nullptr || observe(product, x->data(), width);
}

template <typename T>
void Trunk<T>::QuantizeBackward(const std::vector<uint8_t>& inside,
                                int64_t count, T* gradient) const {
  if (quantizer_ == nullptr || !quantizer_->needs_mask()) return;
  quantizer_->Backward(inside.data(), gradient, count);
}

template <typename T>
void Trunk<T>::Resize(const TrunkPass& pass, int64_t layers) {
  const size_t rows = pass.rows(), C = config_.n_embd, I = config_.n_inner;
  const auto at_least = [](size_t size,
                           std::initializer_list<std::vector<T>*> buffers) {
    for (std::vector<T>* buffer : buffers) {
      if (buffer->size() < size) buffer->resize(size);
    }
  };
  if (layers_.size() < static_cast<size_t>(layers)) layers_.resize(layers);
  for (int64_t i = 0; i < layers; ++i) {
    LayerState& s = layers_[i];
    at_least(rows * C,
             {&s.x, &s.ln1, &s.q, &s.k, &s.v, &s.attention, &s.x_mid, &s.ln2});
    at_least(rows, {&s.mean1, &s.rstd1, &s.mean2, &s.rstd2});
    at_least(rows * I, {&s.fc, &s.gelu});
  }
  at_least(rows * C, {&x_, &hidden_, &narrow_});
  at_least(rows, {&mean_, &rstd_});
  at_least(rows * std::max(3 * C, I), {&wide_});
  if (pass.training) at_least(rows * C, {&narrow2_, &dq_, &dk_, &dv_});
}

template class Trunk<float>;
template class Trunk<double>;

}  // namespace pot
