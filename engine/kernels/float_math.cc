#include "engine/kernels/float_math.h"

#include <bit>
#include <limits>

#include "engine/kernels/kernel_table.h"

#define POT_TARGET

namespace pot {
namespace {

#include "engine/kernels/float_vector.inc"

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// ln 2 in two parts; the first has 32 bits, so n times it is exact for
// |n| < 2^20.
constexpr double kLn2High = 0x1.62e42feep-1;
constexpr double kLn2Low = 0x1.a39ef35793c76p-33;

double PowerOfTwo(int64_t n) {
  return std::bit_cast<double>(static_cast<uint64_t>(n + 1023) << 52);
}

}  // namespace

float ExpF(float x) { return Exp(Splat(x))[0]; }

// x = n ln 2 + r, |r| <= 0.35; Taylor's series to r^13 / 13! < 2e-16 |r|.
double Exp(double x) {
  if (!(x > -746.0)) return x <= -746.0 ? 0.0 : x;
  if (x > 710.0) return kInfinity;
  constexpr double kMagic = 0x1.8p52;
  const double n = (x * 1.4426950408889634 + kMagic) - kMagic;
  const double r = (x - n * kLn2High) - n * kLn2Low;
  double tail = 1.0;
  for (int i = 13; i >= 2; --i) tail = 1.0 + tail * r / i;
  const double y = 1.0 + tail * r;
  // Two factors: n reaches -1076 and 1024.
  const int64_t exponent = static_cast<int64_t>(n);
  const int64_t half = exponent >> 1;
  return y * PowerOfTwo(half) * PowerOfTwo(exponent - half);
}

// x = 2^n m, m in [sqrt(1/2), sqrt 2); log m = 2 artanh s = 2 (s + s^3 / 3 +
// ...), s = (m - 1) / (m + 1), s^2 < 0.0295: 11 terms leave 1e-17 relative.
double Log(double x) {
  if (!(x > 0.0)) return x == 0.0 ? -kInfinity : kInfinity - kInfinity;
  if (x == kInfinity) return x;
  int64_t n = 0;
  if (x < std::numeric_limits<double>::min()) {
    x *= 0x1p54;
    n = -54;
  }
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  n += static_cast<int64_t>(bits >> 52) - 1023;
  double m =
      std::bit_cast<double>((bits & 0xfffffffffffff) | 0x3ff0000000000000);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++n;
  }
  const double s = (m - 1.0) / (m + 1.0);
  const double s2 = s * s;
  double series = 0.0;
  for (int i = 23; i >= 3; i -= 2) series = (series + 1.0 / i) * s2;
  const double log_m = 2.0 * s + 2.0 * s * series;
  const double exponent = static_cast<double>(n);
  return exponent * kLn2High + (exponent * kLn2Low + log_m);
}

namespace {

// Every table gives the same bits: the fastest will do.
const KernelTable& Fastest() {
  static const KernelTable& kernels = *FindKernelTable("auto").value();
  return kernels;
}

}  // namespace

double LogSumExp(const float* x, int64_t count) {
  float max;
  const double sum = Fastest().exp_sum(x, count, &max);
  if (max == -std::numeric_limits<float>::infinity()) return max;
  return static_cast<double>(max) + Log(sum);
}

int64_t ArgMax(const float* x, int64_t count) {
  return Fastest().arg_max(x, count);
}

void SamplingWeights(double* values, int64_t count, double max,
                     double temperature, uint64_t* weights) {
  Fastest().sampling_weights(values, count, max, temperature, weights);
}

}  // namespace pot
