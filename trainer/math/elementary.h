// Elementary functions that the compiler can vectorize inside a loop.
#ifndef POT_TRAINER_MATH_ELEMENTARY_H_
#define POT_TRAINER_MATH_ELEMENTARY_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

// For what a POT_MULTIVERSION function calls: only inlined code is compiled for
// its instruction sets.
#define POT_INLINE inline __attribute__((always_inline))

namespace pot {

// e^x within 3 ulp on [-87, 88], and the value at the nearer end beyond.
// Cephes' reduction and polynomial.
POT_INLINE float VectorExp(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23
  const float n = (x * 1.44269504f + kRound) - kRound;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float y = 1.9875691500e-4f;
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  const int32_t exponent = static_cast<int32_t>(n) + 127;
  return y * std::bit_cast<float>(exponent << 23);
}
inline double VectorExp(double x) { return std::exp(x); }

// Absolute error of the float version <= 3e-7.
template <typename T>
POT_INLINE T VectorTanh(T x) {
  return T{1} - T{2} / (VectorExp(T{2} * x) + T{1});
}
inline double VectorTanh(double x) { return std::tanh(x); }

// Sums run in this many lanes, whatever the CPU, so that they have one order.
inline constexpr int kLanes = 16;

template <typename T>
POT_INLINE T SumLanes(const T* lane) {
  T sum[kLanes / 2];
  for (int j = 0; j < kLanes / 2; ++j) sum[j] = lane[j] + lane[j + kLanes / 2];
  for (int width = kLanes / 4; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) sum[j] += sum[j + width];
  }
  return sum[0];
}

// sum of term(i) over [0, count).
template <typename T, typename Term>
POT_INLINE T LaneSum(int64_t count, const Term& term) {
  T lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lane[j] += term(i + j);
  }
  for (int j = 0; i + j < count; ++j) lane[j] += term(i + j);
  return SumLanes(lane);
}

// Largest of x[count], count >= 1. In a vector type, as GCC does not vectorize
// maxima of floats.
template <typename T>
POT_INLINE T LaneMax(const T* x, int64_t count) {
  typedef T Vector __attribute__((vector_size(kLanes * sizeof(T))));
  T most = x[0];
  int64_t i = 0;
  if (count >= kLanes) {
    Vector lane;
    std::memcpy(&lane, x, sizeof lane);
    for (i = kLanes; i + kLanes <= count; i += kLanes) {
      Vector value;
      std::memcpy(&value, x + i, sizeof value);
      lane = lane < value ? value : lane;
    }
    for (int j = 0; j < kLanes; ++j) most = most < lane[j] ? lane[j] : most;
  }
  for (; i < count; ++i) most = most < x[i] ? x[i] : most;
  return most;
}

}  // namespace pot

#endif  // POT_TRAINER_MATH_ELEMENTARY_H_
