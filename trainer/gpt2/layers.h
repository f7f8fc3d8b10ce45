// The layers of GPT-2 but its matrix products, forward and backward.
//
// Shapes: B sequences of T tokens, rows = B T; C channels; H heads of size D.
// A backward function takes the gradient of its output and *adds* to the
// gradients of parameters; what it does to the gradient of its input is said
// with each. Instantiated for float, and for double to check gradients.
// Results do not depend on the number of threads.
#ifndef POT_TRAINER_GPT2_LAYERS_H_
#define POT_TRAINER_GPT2_LAYERS_H_

#include <cstdint>

#include "engine/gpt2/gpt2_config.h"

namespace pot {

// x[row] = wte[tokens[row]] + wpe[row mod T].
template <typename T>
void EmbeddingForward(const int32_t* tokens, int64_t rows, int64_t context,
                      int64_t channels, const T* wte, const T* wpe, T* x);
template <typename T>
void EmbeddingBackward(const int32_t* tokens, int64_t rows, int64_t context,
                       int64_t channels, const T* dx, T* dwte, T* dwpe);

// y = (x - mean) * rstd * gain + bias per row; arXiv 1607.06450. Keeps mean and
// rstd (rows).
template <typename T>
void LayerNormForward(const T* x, int64_t rows, int64_t channels, const T* gain,
                      const T* bias, float epsilon, T* y, T* mean, T* rstd);
// dx += its gradient.
template <typename T>
void LayerNormBackward(const T* dy, const T* x, const T* mean, const T* rstd,
                       int64_t rows, int64_t channels, const T* gain, T* dx,
                       T* dgain, T* dbias);

// y[row] += bias.
template <typename T>
void BiasForward(const T* bias, int64_t rows, int64_t width, T* y);
template <typename T>
void BiasBackward(const T* dy, int64_t rows, int64_t width, T* dbias);

// GELU, arXiv 1606.08415, in its tanh form or exactly.
template <typename T>
void GeluForward(const T* x, int64_t count, Activation activation, T* y);
// The gradient of y, in place, becomes that of x.
template <typename T>
void GeluBackward(const T* x, int64_t count, Activation activation,
                  T* gradient);

// y += x.
template <typename T>
void Add(const T* x, int64_t count, T* y);

// qkv (B T, 3C) <-> q, k, v (B, H, T, D) each.
template <typename T>
void SplitHeads(const T* qkv, int64_t sequences, int64_t context, int64_t heads,
                int64_t head_size, T* q, T* k, T* v);
template <typename T>
void JoinHeads(const T* q, const T* k, const T* v, int64_t sequences,
               int64_t context, int64_t heads, int64_t head_size, T* qkv);
// One (B, H, T, D) <-> (B T, C).
template <typename T>
void MergeHeads(const T* heads_first, int64_t sequences, int64_t context,
                int64_t heads, int64_t head_size, T* tokens_first);
template <typename T>
void UnmergeHeads(const T* tokens_first, int64_t sequences, int64_t context,
                  int64_t heads, int64_t head_size, T* heads_first);

// For `matrices` of scores (T, T), in place: row i becomes
// softmax(scale * scores[i][0..i]), then zeros.
template <typename T>
void CausalSoftmaxForward(int64_t matrices, int64_t context, T scale,
                          T* scores);
// dscores, in place of the probabilities' gradient.
template <typename T>
void CausalSoftmaxBackward(const T* probabilities, int64_t matrices,
                           int64_t context, T scale, T* gradient);

// Which dropout: a mask is a pure function of this and the element's index, so
// that the backward pass, and a run that is resumed, draw the same one.
struct DropoutKey {
  uint64_t seed = 0;
  uint64_t step = 0;  // micro-batches since the start
  uint32_t site = 0;  // within the model
};

// Sets elements to 0 with probability `rate` and multiplies the others by
// 1 / (1 - rate), in place: of values going forward and of gradients going
// back. `first` is the index of x[0]; a multiple of 4. Nothing at rate 0.
template <typename T>
void Dropout(const DropoutKey& key, double rate, int64_t first, int64_t count,
             T* x);

}  // namespace pot

#endif  // POT_TRAINER_GPT2_LAYERS_H_
