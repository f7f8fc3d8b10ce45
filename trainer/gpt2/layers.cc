// One file, so that each layer's forward and backward loops stand side by side.
#include "trainer/gpt2/layers.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "engine/base/philox.h"
#include "trainer/base/multiversion.h"
#include "trainer/base/parallel.h"
#include "trainer/math/elementary.h"

namespace pot {
namespace {

// Elements that are worth a thread's start.
constexpr int64_t kGrain = 1 << 13;
// Columns of a sum over rows that one thread takes: whole cache lines.
constexpr int64_t kColumns = 32;

int64_t RowGrain(int64_t width) { return std::max<int64_t>(1, kGrain / width); }

// The loops below are templates for float and double; the wrappers after each
// compile the float version for several instruction sets.

template <typename T>
POT_INLINE void LayerNormRows(const T* x, int64_t rows, int64_t channels,
                              const T* gain, const T* bias, float epsilon, T* y,
                              T* mean, T* rstd) {
  for (int64_t row = 0; row < rows; ++row, x += channels, y += channels) {
    const T m =
        LaneSum<T>(channels, [x](int64_t i) { return x[i]; }) / T(channels);
    const T variance =
        LaneSum<T>(channels,
                   [x, m](int64_t i) { return (x[i] - m) * (x[i] - m); }) /
        T(channels);
    const T r = T{1} / std::sqrt(variance + T(epsilon));
    for (int64_t i = 0; i < channels; ++i) {
      y[i] = (x[i] - m) * r * gain[i] + bias[i];
    }
    mean[row] = m;
    rstd[row] = r;
  }
}
POT_MULTIVERSION void LayerNormRange(const float* x, int64_t rows,
                                     int64_t channels, const float* gain,
                                     const float* bias, float epsilon, float* y,
                                     float* mean, float* rstd) {
  LayerNormRows(x, rows, channels, gain, bias, epsilon, y, mean, rstd);
}
void LayerNormRange(const double* x, int64_t rows, int64_t channels,
                    const double* gain, const double* bias, float epsilon,
                    double* y, double* mean, double* rstd) {
  LayerNormRows(x, rows, channels, gain, bias, epsilon, y, mean, rstd);
}

// With n = (x - mean) rstd and g = dy gain:
// dx = rstd (g - mean(g) - n mean(g n)).
template <typename T>
POT_INLINE void LayerNormInputRows(const T* dy, const T* x, const T* mean,
                                   const T* rstd, int64_t rows,
                                   int64_t channels, const T* gain, T* dx) {
  for (int64_t row = 0; row < rows; ++row) {
    const T m = mean[row], r = rstd[row];
    const T sum =
        LaneSum<T>(channels, [=](int64_t i) { return dy[i] * gain[i]; }) /
        T(channels);
    const T product = LaneSum<T>(channels,
                                 [=](int64_t i) {
                                   return dy[i] * gain[i] * ((x[i] - m) * r);
                                 }) /
                      T(channels);
    for (int64_t i = 0; i < channels; ++i) {
      dx[i] += r * (dy[i] * gain[i] - sum - (x[i] - m) * r * product);
    }
    dy += channels, x += channels, dx += channels;
  }
}
POT_MULTIVERSION void LayerNormInputRange(const float* dy, const float* x,
                                          const float* mean, const float* rstd,
                                          int64_t rows, int64_t channels,
                                          const float* gain, float* dx) {
  LayerNormInputRows(dy, x, mean, rstd, rows, channels, gain, dx);
}
void LayerNormInputRange(const double* dy, const double* x, const double* mean,
                         const double* rstd, int64_t rows, int64_t channels,
                         const double* gain, double* dx) {
  LayerNormInputRows(dy, x, mean, rstd, rows, channels, gain, dx);
}

// Columns [begin, end) of the sums over all rows.
template <typename T>
POT_INLINE void LayerNormParameterColumns(const T* dy, const T* x,
                                          const T* mean, const T* rstd,
                                          int64_t rows, int64_t channels,
                                          int64_t begin, int64_t end, T* dgain,
                                          T* dbias) {
  for (int64_t row = 0; row < rows; ++row) {
    const T m = mean[row], r = rstd[row];
    const T* const dy_row = dy + row * channels;
    const T* const x_row = x + row * channels;
    for (int64_t i = begin; i < end; ++i) {
      dgain[i] += dy_row[i] * ((x_row[i] - m) * r);
      dbias[i] += dy_row[i];
    }
  }
}
POT_MULTIVERSION void LayerNormParameterRange(const float* dy, const float* x,
                                              const float* mean,
                                              const float* rstd, int64_t rows,
                                              int64_t channels, int64_t begin,
                                              int64_t end, float* dgain,
                                              float* dbias) {
  LayerNormParameterColumns(dy, x, mean, rstd, rows, channels, begin, end,
                            dgain, dbias);
}
void LayerNormParameterRange(const double* dy, const double* x,
                             const double* mean, const double* rstd,
                             int64_t rows, int64_t channels, int64_t begin,
                             int64_t end, double* dgain, double* dbias) {
  LayerNormParameterColumns(dy, x, mean, rstd, rows, channels, begin, end,
                            dgain, dbias);
}

template <typename T>
POT_INLINE void SumColumns(const T* dy, int64_t rows, int64_t width,
                           int64_t begin, int64_t end, T* sum) {
  for (int64_t row = 0; row < rows; ++row) {
    const T* const dy_row = dy + row * width;
    for (int64_t i = begin; i < end; ++i) sum[i] += dy_row[i];
  }
}
POT_MULTIVERSION void SumColumnRange(const float* dy, int64_t rows,
                                     int64_t width, int64_t begin, int64_t end,
                                     float* sum) {
  SumColumns(dy, rows, width, begin, end, sum);
}
void SumColumnRange(const double* dy, int64_t rows, int64_t width,
                    int64_t begin, int64_t end, double* sum) {
  SumColumns(dy, rows, width, begin, end, sum);
}

template <typename T>
POT_INLINE void AddElements(const T* x, int64_t count, T* y) {
  for (int64_t i = 0; i < count; ++i) y[i] += x[i];
}
POT_MULTIVERSION void AddRange(const float* x, int64_t count, float* y) {
  AddElements(x, count, y);
}
void AddRange(const double* x, int64_t count, double* y) {
  AddElements(x, count, y);
}

// y = x/2 (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3).
constexpr double kGeluA = 0.7978845608028654;
constexpr double kGeluB = 0.044715;

template <typename T>
POT_INLINE void GeluTanhElements(const T* x, int64_t count, T* y) {
  for (int64_t i = 0; i < count; ++i) {
    const T u = T(kGeluA) * (x[i] + T(kGeluB) * x[i] * x[i] * x[i]);
    y[i] = T(0.5) * x[i] * (T{1} + VectorTanh(u));
  }
}
POT_MULTIVERSION void GeluTanhRange(const float* x, int64_t count, float* y) {
  GeluTanhElements(x, count, y);
}
void GeluTanhRange(const double* x, int64_t count, double* y) {
  GeluTanhElements(x, count, y);
}

template <typename T>
POT_INLINE void GeluTanhGradient(const T* x, int64_t count, T* gradient) {
  for (int64_t i = 0; i < count; ++i) {
    const T square = x[i] * x[i];
    const T u = T(kGeluA) * (x[i] + T(kGeluB) * square * x[i]);
    const T t = VectorTanh(u);
    const T du = T(kGeluA) * (T{1} + T(3 * kGeluB) * square);
    gradient[i] *= T(0.5) * ((T{1} + t) + x[i] * (T{1} - t * t) * du);
  }
}
POT_MULTIVERSION void GeluTanhGradientRange(const float* x, int64_t count,
                                            float* gradient) {
  GeluTanhGradient(x, count, gradient);
}
void GeluTanhGradientRange(const double* x, int64_t count, double* gradient) {
  GeluTanhGradient(x, count, gradient);
}

// Row i of one matrix of scores.
template <typename T>
POT_INLINE void CausalSoftmaxMatrix(int64_t context, T scale, T* scores) {
  for (int64_t i = 0; i < context; ++i, scores += context) {
    const int64_t count = i + 1;
    const T most = LaneMax(scores, count);
    for (int64_t j = 0; j < count; ++j) {
      scores[j] = VectorExp((scores[j] - most) * scale);
    }
    const T inverse =
        T{1} / LaneSum<T>(count, [scores](int64_t j) { return scores[j]; });
    for (int64_t j = 0; j < count; ++j) scores[j] *= inverse;
    for (int64_t j = count; j < context; ++j) scores[j] = T{0};
  }
}
POT_MULTIVERSION void CausalSoftmaxOne(int64_t context, float scale,
                                       float* scores) {
  CausalSoftmaxMatrix(context, scale, scores);
}
void CausalSoftmaxOne(int64_t context, double scale, double* scores) {
  CausalSoftmaxMatrix(context, scale, scores);
}

// ds = scale p (dp - sum(dp p)).
template <typename T>
POT_INLINE void CausalSoftmaxMatrixGradient(const T* p, int64_t context,
                                            T scale, T* gradient) {
  for (int64_t i = 0; i < context; ++i, p += context, gradient += context) {
    const int64_t count = i + 1;
    const T sum = LaneSum<T>(
        count, [p, gradient](int64_t j) { return p[j] * gradient[j]; });
    for (int64_t j = 0; j < count; ++j) {
      gradient[j] = scale * p[j] * (gradient[j] - sum);
    }
    for (int64_t j = count; j < context; ++j) gradient[j] = T{0};
  }
}
POT_MULTIVERSION void CausalSoftmaxOneGradient(const float* p, int64_t context,
                                               float scale, float* gradient) {
  CausalSoftmaxMatrixGradient(p, context, scale, gradient);
}
void CausalSoftmaxOneGradient(const double* p, int64_t context, double scale,
                              double* gradient) {
  CausalSoftmaxMatrixGradient(p, context, scale, gradient);
}

// Copies between (B, T, `slots`, H, D) at slot `slot` and (B, H, T, D).
template <typename T, bool kToHeads, typename Tokens, typename Heads>
void CopyHeads(Tokens* tokens, int64_t slots, int64_t slot, int64_t sequences,
               int64_t context, int64_t heads, int64_t head_size,
               Heads* by_head) {
  const int64_t channels = heads * head_size;
  ParallelFor(
      sequences * context, RowGrain(channels), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          const int64_t b = row / context, t = row % context;
          Tokens* const token = tokens + (row * slots + slot) * channels;
          for (int64_t h = 0; h < heads; ++h) {
            Heads* const head =
                by_head + ((b * heads + h) * context + t) * head_size;
            if constexpr (kToHeads) {
              std::copy_n(token + h * head_size, head_size, head);
            } else {
              std::copy_n(head, head_size, token + h * head_size);
            }
          }
        }
      });
}

}  // namespace

template <typename T>
void EmbeddingForward(const int32_t* tokens, int64_t rows, int64_t context,
                      int64_t channels, const T* wte, const T* wpe, T* x) {
  ParallelFor(rows, RowGrain(channels), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* const token = wte + tokens[row] * channels;
      const T* const position = wpe + row % context * channels;
      T* const out = x + row * channels;
      for (int64_t i = 0; i < channels; ++i) out[i] = token[i] + position[i];
    }
  });
}

template <typename T>
void EmbeddingBackward(const int32_t* tokens, int64_t rows, int64_t context,
                       int64_t channels, const T* dx, T* dwte, T* dwpe) {
  // By columns: several rows may add to one token.
  ParallelFor(channels, kColumns, [&](int64_t begin, int64_t end) {
    for (int64_t row = 0; row < rows; ++row) {
      T* const token = dwte + tokens[row] * channels;
      T* const position = dwpe + row % context * channels;
      const T* const in = dx + row * channels;
      for (int64_t i = begin; i < end; ++i) {
        token[i] += in[i];
        position[i] += in[i];
      }
    }
  });
}

template <typename T>
void LayerNormForward(const T* x, int64_t rows, int64_t channels, const T* gain,
                      const T* bias, float epsilon, T* y, T* mean, T* rstd) {
  ParallelFor(rows, RowGrain(channels), [&](int64_t begin, int64_t end) {
    LayerNormRange(x + begin * channels, end - begin, channels, gain, bias,
                   epsilon, y + begin * channels, mean + begin, rstd + begin);
  });
}

template <typename T>
void LayerNormBackward(const T* dy, const T* x, const T* mean, const T* rstd,
                       int64_t rows, int64_t channels, const T* gain, T* dx,
                       T* dgain, T* dbias) {
  ParallelFor(rows, RowGrain(channels), [&](int64_t begin, int64_t end) {
    LayerNormInputRange(dy + begin * channels, x + begin * channels,
                        mean + begin, rstd + begin, end - begin, channels, gain,
                        dx + begin * channels);
  });
  ParallelFor(channels, kColumns, [&](int64_t begin, int64_t end) {
    LayerNormParameterRange(dy, x, mean, rstd, rows, channels, begin, end,
                            dgain, dbias);
  });
}

template <typename T>
void BiasForward(const T* bias, int64_t rows, int64_t width, T* y) {
  ParallelFor(rows, RowGrain(width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      AddRange(bias, width, y + row * width);
    }
  });
}

template <typename T>
void BiasBackward(const T* dy, int64_t rows, int64_t width, T* dbias) {
  ParallelFor(width, kColumns, [&](int64_t begin, int64_t end) {
    SumColumnRange(dy, rows, width, begin, end, dbias);
  });
}

template <typename T>
void GeluForward(const T* x, int64_t count, Activation activation, T* y) {
  ParallelFor(count, kGrain, [&](int64_t begin, int64_t end) {
    if (activation == Activation::kGeluTanh) {
      return GeluTanhRange(x + begin, end - begin, y + begin);
    }
    for (int64_t i = begin; i < end; ++i) {
      y[i] = T(0.5) * x[i] * (T{1} + std::erf(x[i] * T(M_SQRT1_2)));
    }
  });
}

template <typename T>
void GeluBackward(const T* x, int64_t count, Activation activation,
                  T* gradient) {
  ParallelFor(count, kGrain, [&](int64_t begin, int64_t end) {
    if (activation == Activation::kGeluTanh) {
      return GeluTanhGradientRange(x + begin, end - begin, gradient + begin);
    }
    constexpr double kDensity = 0.3989422804014327;  // 1 / sqrt(2 pi)
    for (int64_t i = begin; i < end; ++i) {
      const T cumulative = T(0.5) * (T{1} + std::erf(x[i] * T(M_SQRT1_2)));
      const T density = T(kDensity) * std::exp(T(-0.5) * x[i] * x[i]);
      gradient[i] *= cumulative + x[i] * density;
    }
  });
}

template <typename T>
void Add(const T* x, int64_t count, T* y) {
  ParallelFor(count, kGrain, [&](int64_t begin, int64_t end) {
    AddRange(x + begin, end - begin, y + begin);
  });
}

template <typename T>
void SplitHeads(const T* qkv, int64_t sequences, int64_t context, int64_t heads,
                int64_t head_size, T* q, T* k, T* v) {
  CopyHeads<T, true>(qkv, 3, 0, sequences, context, heads, head_size, q);
  CopyHeads<T, true>(qkv, 3, 1, sequences, context, heads, head_size, k);
  CopyHeads<T, true>(qkv, 3, 2, sequences, context, heads, head_size, v);
}

template <typename T>
void JoinHeads(const T* q, const T* k, const T* v, int64_t sequences,
               int64_t context, int64_t heads, int64_t head_size, T* qkv) {
  CopyHeads<T, false>(qkv, 3, 0, sequences, context, heads, head_size, q);
  CopyHeads<T, false>(qkv, 3, 1, sequences, context, heads, head_size, k);
  CopyHeads<T, false>(qkv, 3, 2, sequences, context, heads, head_size, v);
}

template <typename T>
void MergeHeads(const T* heads_first, int64_t sequences, int64_t context,
                int64_t heads, int64_t head_size, T* tokens_first) {
  CopyHeads<T, false>(tokens_first, 1, 0, sequences, context, heads, head_size,
                      heads_first);
}

template <typename T>
void UnmergeHeads(const T* tokens_first, int64_t sequences, int64_t context,
                  int64_t heads, int64_t head_size, T* heads_first) {
  CopyHeads<T, true>(tokens_first, 1, 0, sequences, context, heads, head_size,
                     heads_first);
}

template <typename T>
void CausalSoftmaxForward(int64_t matrices, int64_t context, T scale,
                          T* scores) {
  const int64_t size = context * context;
  ParallelFor(matrices, RowGrain(size), [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      CausalSoftmaxOne(context, scale, scores + m * size);
    }
  });
}

template <typename T>
void CausalSoftmaxBackward(const T* probabilities, int64_t matrices,
                           int64_t context, T scale, T* gradient) {
  const int64_t size = context * context;
  ParallelFor(matrices, RowGrain(size), [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      CausalSoftmaxOneGradient(probabilities + m * size, context, scale,
                               gradient + m * size);
    }
  });
}

template <typename T>
void Dropout(const DropoutKey& key, double rate, int64_t first, int64_t count,
             T* x) {
  if (rate <= 0) return;
  // An element is dropped when its 32 random bits are below this.
  const auto threshold = static_cast<uint64_t>(rate * 0x1p32);
  const T scale = T(1 / (1 - rate));
  constexpr int64_t kWords = 4;
  ParallelFor((count + kWords - 1) / kWords, kGrain / kWords,
              [&](int64_t begin, int64_t end) {
                for (int64_t group = begin; group < end; ++group) {
                  const uint64_t index = first / kWords + group;
                  const std::array<uint32_t, 4> words =
                      Philox4x32({static_cast<uint32_t>(index),
                                  static_cast<uint32_t>(index >> 32), key.site,
                                  static_cast<uint32_t>(key.step)},
                                 {static_cast<uint32_t>(key.seed),
                                  static_cast<uint32_t>(key.seed >> 32) ^
                                      static_cast<uint32_t>(key.step >> 32)});
                  const int64_t last =
                      std::min<int64_t>(kWords, count - group * kWords);
                  for (int64_t j = 0; j < last; ++j) {
                    T& value = x[group * kWords + j];
                    value = words[j] < threshold ? T{0} : value * scale;
                  }
                }
              });
}

#define POT_INSTANTIATE_LAYERS(T)                                             \
  template void EmbeddingForward(const int32_t*, int64_t, int64_t, int64_t,   \
                                 const T*, const T*, T*);                     \
  template void EmbeddingBackward(const int32_t*, int64_t, int64_t, int64_t,  \
                                  const T*, T*, T*);                          \
  template void LayerNormForward(const T*, int64_t, int64_t, const T*,        \
                                 const T*, float, T*, T*, T*);                \
  template void LayerNormBackward(const T*, const T*, const T*, const T*,     \
                                  int64_t, int64_t, const T*, T*, T*, T*);    \
  template void BiasForward(const T*, int64_t, int64_t, T*);                  \
  template void BiasBackward(const T*, int64_t, int64_t, T*);                 \
  template void GeluForward(const T*, int64_t, Activation, T*);               \
  template void GeluBackward(const T*, int64_t, Activation, T*);              \
  template void Add(const T*, int64_t, T*);                                   \
  template void SplitHeads(const T*, int64_t, int64_t, int64_t, int64_t, T*,  \
                           T*, T*);                                           \
  template void JoinHeads(const T*, const T*, const T*, int64_t, int64_t,     \
                          int64_t, int64_t, T*);                              \
  template void MergeHeads(const T*, int64_t, int64_t, int64_t, int64_t, T*); \
  template void UnmergeHeads(const T*, int64_t, int64_t, int64_t, int64_t,    \
                             T*);                                             \
  template void CausalSoftmaxForward(int64_t, int64_t, T, T*);                \
  template void CausalSoftmaxBackward(const T*, int64_t, int64_t, T, T*);     \
  template void Dropout(const DropoutKey&, double, int64_t, int64_t, T*);

POT_INSTANTIATE_LAYERS(float)
POT_INSTANTIATE_LAYERS(double)
#undef POT_INSTANTIATE_LAYERS

}  // namespace pot
