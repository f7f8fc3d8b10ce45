#include "trainer/gpt2/attention.h"

#include <algorithm>
#include <cmath>

namespace pot {
namespace {

// Of each scratch buffer: with its neighbours within a core's second cache
// while that is possible, and long enough to share between threads.
constexpr int64_t kChunkElements = 1 << 18;

template <typename T>
T Scale(const AttentionShape& shape) {
  return T(1 / std::sqrt(static_cast<double>(shape.head_size)));
}

}  // namespace

template <typename T>
int64_t Attention<T>::ChunkSize(const AttentionShape& shape) {
  const int64_t square = shape.context * shape.context;
  const int64_t chunk =
      std::clamp<int64_t>(kChunkElements / square, 1, shape.matrices);
  if (static_cast<int64_t>(probabilities_.size()) < chunk * square) {
    probabilities_.resize(chunk * square);
    dropped_.resize(shape.dropout > 0 ? chunk * square : 0);
    gradient_.resize(chunk * square);
  }
  return chunk;
}

template <typename T>
void Attention<T>::Probabilities(const AttentionShape& shape, int64_t count,
                                 const T* q, const T* k) {
  products_->Multiply({.m = shape.context,
                       .n = shape.context,
                       .k = shape.head_size,
                       .batch = count,
                       .transpose_b = true},
                      q, k, probabilities_.data());
  CausalSoftmaxForward(count, shape.context, Scale<T>(shape),
                       probabilities_.data());
}

template <typename T>
void Attention<T>::Forward(const AttentionShape& shape, const T* q, const T* k,
                           const T* v, T* out) {
  const int64_t T_ = shape.context, D = shape.head_size;
  const int64_t chunk = ChunkSize(shape);
  for (int64_t first = 0; first < shape.matrices; first += chunk) {
    const int64_t count = std::min(chunk, shape.matrices - first);
    const int64_t at = first * T_ * D;
    Probabilities(shape, count, q + at, k + at);
    Dropout(shape.dropout_key, shape.dropout, first * T_ * T_, count * T_ * T_,
            probabilities_.data());
    products_->Multiply({.m = T_, .n = D, .k = T_, .batch = count},
                        probabilities_.data(), v + at, out + at);
  }
}

template <typename T>
void Attention<T>::Backward(const AttentionShape& shape, const T* q, const T* k,
                            const T* v, const T* dout, T* dq, T* dk, T* dv) {
  const int64_t T_ = shape.context, D = shape.head_size;
  const int64_t chunk = ChunkSize(shape);
  for (int64_t first = 0; first < shape.matrices; first += chunk) {
    const int64_t count = std::min(chunk, shape.matrices - first);
    const int64_t at = first * T_ * D;
    const int64_t size = count * T_ * T_;
    Probabilities(shape, count, q + at, k + at);
    // P v = out: dv = P^T dout, dP = dout v^T, both through the dropout.
    const T* dropped = probabilities_.data();
    if (shape.dropout > 0) {
      std::copy_n(probabilities_.begin(), size, dropped_.begin());
      Dropout(shape.dropout_key, shape.dropout, first * T_ * T_, size,
              dropped_.data());
      dropped = dropped_.data();
    }
    products_->Multiply(
        {.m = T_, .n = D, .k = T_, .batch = count, .transpose_a = true},
        dropped, dout + at, dv + at);
    products_->Multiply(
        {.m = T_, .n = T_, .k = D, .batch = count, .transpose_b = true},
        dout + at, v + at, gradient_.data());
    Dropout(shape.dropout_key, shape.dropout, first * T_ * T_, size,
            gradient_.data());
    CausalSoftmaxBackward(probabilities_.data(), count, T_, Scale<T>(shape),
                          gradient_.data());
    // q k^T = scores: dq = dS k, dk = dS^T q.
    products_->Multiply({.m = T_, .n = D, .k = T_, .batch = count},
                        gradient_.data(), k + at, dq + at);
    products_->Multiply(
        {.m = T_, .n = D, .k = T_, .batch = count, .transpose_a = true},
        gradient_.data(), q + at, dk + at);
  }
}

template class Attention<float>;
template class Attention<double>;

}  // namespace pot
