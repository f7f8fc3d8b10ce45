// GPT-2 up to its last LayerNorm, forward and backward, over whole sequences.
// Read trunk.cc from top to bottom.
#ifndef POT_TRAINER_GPT2_TRUNK_H_
#define POT_TRAINER_GPT2_TRUNK_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/types/span.h"
#include "engine/gpt2/gpt2_config.h"
#include "trainer/gpt2/attention.h"
#include "trainer/gpt2/parameter_layout.h"
#include "trainer/math/products.h"
#include "trainer/quantization/activation_fake_quantizer.h"

namespace pot {

// Inputs of quantized products in a model: c_attn, c_proj, c_fc and c_proj of
// every layer, and the head.
inline int NumActivationSites(const Gpt2Config& config) {
  return static_cast<int>(4 * config.n_layer + 1);
}

struct TrunkOptions {
  // After the embeddings, of attention's probabilities, and of what each half
  // of a layer adds to the residual stream.
  double dropout = 0;
};

// What one forward pass is told.
struct TrunkPass {
  int64_t sequences = 0;  // B
  int64_t context = 0;    // T, at most n_positions
  // (B T), each in [0, vocab_size).
  const int32_t* tokens = nullptr;
  // Dropout, observers, and activations kept for Backward().
  bool training = false;
  uint64_t dropout_seed = 0;
  uint64_t dropout_step = 0;  // micro-batches since the start

  int64_t rows() const { return sequences * context; }
};

template <typename T>
class Trunk {
 public:
  // `products` must outlive this, and so must `quantizer`, which may be null:
  // activations then stay as they are.
  Trunk(const Gpt2Config& config, const TrunkOptions& options,
        Products<T>* products, ActivationFakeQuantizer* quantizer);

  // The head's input, (B T, C), valid until the next call.
  absl::Span<const T> Forward(const ModelParameters<const T>& parameters,
                              const TrunkPass& pass);

  // Sees the inputs (B T, width) of one of a layer's four products, 0 to 3 from
  // c_attn to the MLP's c_proj, as they are multiplied; false ends the layer.
  using InputObserver =
      std::function<bool(int product, const T* inputs, int64_t width)>;

  // One layer alone: `x` (B T, C), the residual stream, before and after it;
  // left alone when `observe`, which may be null, ended it.
  void RunLayer(const LayerParameters<const T>& parameters,
                const TrunkPass& pass, int64_t layer,
                const InputObserver& observe, T* x);

  // After a RunLayer with pass.training that nothing ended. `dx` (B T, C), the
  // gradient of the residual stream after the layer, becomes that before it;
  // `gradients` are added to.
  void RunLayerBackward(const LayerParameters<const T>& parameters,
                        const TrunkPass& pass, int64_t layer,
                        const LayerParameters<T>& gradients, T* dx);

  // After a Forward with pass.training. `dhidden` (B T, C), the gradient of its
  // result, is used as scratch; `gradients` are added to.
  void Backward(const ModelParameters<const T>& parameters,
                const TrunkPass& pass, T* dhidden,
                const ModelParameters<T>& gradients);

  // Of the last Backward: the gradient of what the embeddings of each token add
  // up to, (B T, C), valid until the next call.
  absl::Span<const T> embedding_gradient() const { return narrow_; }

 private:
  // Of one layer, for its backward pass.
  struct LayerState {
    std::vector<T> x;                  // (B T, C) residual stream
    std::vector<T> ln1, mean1, rstd1;  // (B T, C), (B T), (B T)
    std::vector<T> q, k, v;            // (B, H, T, D)
    std::vector<T> attention;          // (B T, C)
    std::vector<T> x_mid;              // (B T, C) residual stream
    std::vector<T> ln2, mean2, rstd2;  // (B T, C), (B T), (B T)
    std::vector<T> fc, gelu;           // (B T, I)
    std::vector<uint8_t> inside[4];    // clipping masks of ln1, attention,
                                       // ln2 and gelu, where there are any
  };

  void Resize(const TrunkPass& pass, int64_t layers);
  AttentionShape ShapeOfAttention(const TrunkPass& pass, int64_t layer) const;
  // Dropout of (B T, C) values or gradients at a site.
  void DropoutAt(const TrunkPass& pass, int64_t site, T* x) const;
  void Quantize(int64_t site, const TrunkPass& pass, int64_t width,
                std::vector<T>* x, std::vector<uint8_t>* inside);
  // The same at a layer's product; false when the observer has seen enough.
  bool QuantizeInputs(int64_t layer, int product, const TrunkPass& pass,
                      int64_t width, std::vector<T>* x,
                      std::vector<uint8_t>* inside,
                      const InputObserver& observe);
  void QuantizeBackward(const std::vector<uint8_t>& inside, int64_t count,
                        T* gradient) const;

  // y = x W^T + bias, and back: dW += dy^T x, dbias += dy, dx = dy W.
  void LinearForward(const T* x, const T* weight, const T* bias, int64_t rows,
                     int64_t inputs, int64_t outputs, T* y);
  void LinearBackward(const T* dy, const T* x, const T* weight, int64_t rows,
                      int64_t inputs, int64_t outputs, T* dx, T* dweight,
                      T* dbias);

  // Leaves the layer's output in x_, unless `observe` ended it: then false.
  bool LayerForward(const LayerParameters<const T>& p, const TrunkPass& pass,
                    int64_t layer, const InputObserver& observe,
                    LayerState* state);
  // `dx`: gradient of the layer's output, then of its input.
  void LayerBackward(const LayerParameters<const T>& p, const TrunkPass& pass,
                     int64_t layer, const LayerState& state,
                     const LayerParameters<T>& gradients, T* dx);

  const Gpt2Config config_;
  const TrunkOptions options_;
  Products<T>* const products_;
  ActivationFakeQuantizer* const quantizer_;
  Attention<T> attention_;

  std::vector<LayerState> layers_;  // all of them, or one when not training
  std::vector<T> x_;                // (B T, C): input of the last LayerNorm
  std::vector<T> hidden_, mean_, rstd_;
  std::vector<uint8_t> inside_;
  std::vector<T> narrow_, narrow2_;  // (B T, C) scratch
  std::vector<T> wide_;              // (B T, max(3C, I)) scratch
  std::vector<T> dq_, dk_, dv_;
};

}  // namespace pot

#endif  // POT_TRAINER_GPT2_TRUNK_H_
