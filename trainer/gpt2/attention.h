// Causal self-attention, arXiv 1706.03762, forward and backward.
#ifndef POT_TRAINER_GPT2_ATTENTION_H_
#define POT_TRAINER_GPT2_ATTENTION_H_

#include <cstdint>
#include <vector>

#include "trainer/gpt2/layers.h"
#include "trainer/math/products.h"

namespace pot {

// q, k, v, out and their gradients: (matrices, context, head_size), one matrix
// per sequence and head.
struct AttentionShape {
  int64_t matrices = 0;  // B H
  int64_t context = 0;   // T
  int64_t head_size = 0;
  double dropout = 0;  // of the probabilities
  DropoutKey dropout_key;
};

// Probabilities are not kept for the backward pass but computed again, so that
// memory grows with T^2 of some heads and not of all layers'.
template <typename T>
class Attention {
 public:
  // `products` must outlive this.
  explicit Attention(Products<T>* products) : products_(products) {}

  // out = dropout(softmax(q k^T / sqrt(head_size))) v, position i seeing 0..i.
  void Forward(const AttentionShape& shape, const T* q, const T* k, const T* v,
               T* out);
  // dq, dk and dv are set.
  void Backward(const AttentionShape& shape, const T* q, const T* k, const T* v,
                const T* dout, T* dq, T* dk, T* dv);

 private:
  // Softmax of matrices [first, first + count) into probabilities_.
  void Probabilities(const AttentionShape& shape, int64_t count, const T* q,
                     const T* k);
  // Matrices that are worked on at a time.
  int64_t ChunkSize(const AttentionShape& shape);

  Products<T>* const products_;
  std::vector<T> probabilities_, dropped_, gradient_;  // (chunk, T, T)
};

}  // namespace pot

#endif  // POT_TRAINER_GPT2_ATTENTION_H_
