#include "tests/bench/float_dequantize.h"

#include <bit>

#if defined(__x86_64__)
#include "engine/kernels/x86_intrinsics.h"
#endif

namespace pot {

float DequantizeCode(Dequantization kind, uint32_t code, float scale) {
  if (kind == Dequantization::kInt4) {
    return static_cast<float>(static_cast<int32_t>(code) - 8) * scale;
  }
  const uint32_t exponent = code & 7, sign = code >> 3;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scale) +
                              (exponent << 23) + (sign << 31));
}

#if defined(__x86_64__)
namespace {

// Sign and exponent of a code in a word's top nibble, five bits further down:
// the arithmetic shift leaves the sign where it is.
constexpr int kPotMask = static_cast<int>(0x83800000u);

#define POT_AVX2 __attribute__((target("avx2,fma")))
#define POT_AVX512 __attribute__((target("avx512f")))

// Each struct: what is made of a group's scale, and its weights of nibble j.
struct Avx2Int4 {
  __m256 scale, offset;
  POT_AVX2 explicit Avx2Int4(float s)
      : scale(_mm256_set1_ps(s)), offset(_mm256_set1_ps(8 * s)) {}
  template <int kNibble>
  POT_AVX2 inline __attribute__((always_inline)) __m256 Weights(
      __m256i words) const {
    const __m256i codes = _mm256_and_si256(
        kNibble == 0 ? words : _mm256_srli_epi32(words, 4 * kNibble),
        _mm256_set1_epi32(15));
    // One rounding, of the exact product: 8 * scale is exact.
    return _mm256_fmsub_ps(_mm256_cvtepi32_ps(codes), scale, offset);
  }
};

struct Avx2Pot {
  __m256i bits;
  POT_AVX2 explicit Avx2Pot(float s)
      : bits(_mm256_castps_si256(_mm256_set1_ps(s))) {}
  template <int kNibble>
  POT_AVX2 inline __attribute__((always_inline)) __m256 Weights(
      __m256i words) const {
    const __m256i top =
        kNibble == 7 ? words : _mm256_slli_epi32(words, 28 - 4 * kNibble);
    const __m256i change = _mm256_and_si256(_mm256_srai_epi32(top, 5),
                                            _mm256_set1_epi32(kPotMask));
    return _mm256_castsi256_ps(_mm256_add_epi32(bits, change));
  }
};

struct Avx512Int4 {
  __m512 scale, offset;
  POT_AVX512 explicit Avx512Int4(float s)
      : scale(_mm512_set1_ps(s)), offset(_mm512_set1_ps(8 * s)) {}
  template <int kNibble>
  POT_AVX512 inline __attribute__((always_inline)) __m512 Weights(
      __m512i words) const {
    const __m512i codes = _mm512_and_si512(
        kNibble == 0 ? words : _mm512_srli_epi32(words, 4 * kNibble),
        _mm512_set1_epi32(15));
    return _mm512_fmsub_ps(_mm512_cvtepi32_ps(codes), scale, offset);
  }
};

struct Avx512Pot {
  __m512i bits;
  POT_AVX512 explicit Avx512Pot(float s)
      : bits(_mm512_castps_si512(_mm512_set1_ps(s))) {}
  template <int kNibble>
  POT_AVX512 inline __attribute__((always_inline)) __m512 Weights(
      __m512i words) const {
    const __m512i top =
        kNibble == 7 ? words : _mm512_slli_epi32(words, 28 - 4 * kNibble);
    const __m512i change = _mm512_and_si512(_mm512_srai_epi32(top, 5),
                                            _mm512_set1_epi32(kPotMask));
    return _mm512_castsi512_ps(_mm512_add_epi32(bits, change));
  }
};

// The 16 weights of a group as one vector, for either kind of code.
struct Avx512Lookup {
  __m512 book;
  POT_AVX512 explicit Avx512Lookup(float s) {
    const __m512i code =
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    book = Avx512Pot(s).Weights<0>(code);
  }
  template <int kNibble>
  POT_AVX512 inline __attribute__((always_inline)) __m512 Weights(
      __m512i words) const {
    return _mm512_permutexvar_ps(
        kNibble == 0 ? words : _mm512_srli_epi32(words, 4 * kNibble), book);
  }
};

// Calls function(nibble) for nibbles 0 to 7, all inlined.
#define POT_FOR_EACH_NIBBLE(statement)                             \
  statement(0) statement(1) statement(2) statement(3) statement(4) \
      statement(5) statement(6) statement(7)

template <typename Method>
POT_AVX2 void Avx2Dequantize(const uint32_t* words, const float* scales,
                             int64_t groups, float* weights) {
  for (int64_t g = 0; g < groups; ++g) {
    const Method method(scales[g]);
    for (int half = 0; half < 2; ++half) {
      const __m256i codes = _mm256_loadu_si256(
          reinterpret_cast<const __m256i*>(words + 16 * g + 8 * half));
      float* const out = weights + kDequantizeGroup * g + 8 * half;
#define POT_STORE(j) \
  _mm256_storeu_ps(out + 16 * j, method.template Weights<j>(codes));
      POT_FOR_EACH_NIBBLE(POT_STORE)
#undef POT_STORE
    }
  }
}

template <typename Method>
POT_AVX2 float Avx2Dot(const uint32_t* words, const float* scales,
                       int64_t groups, const float* x) {
  __m256 sums[8] = {};
  for (int64_t g = 0; g < groups; ++g) {
    const Method method(scales[g]);
    for (int half = 0; half < 2; ++half) {
      const __m256i codes = _mm256_loadu_si256(
          reinterpret_cast<const __m256i*>(words + 16 * g + 8 * half));
      const float* const in = x + kDequantizeGroup * g + 8 * half;
#define POT_MULTIPLY(j)                                        \
  sums[j] = _mm256_fmadd_ps(method.template Weights<j>(codes), \
                            _mm256_loadu_ps(in + 16 * j), sums[j]);
      POT_FOR_EACH_NIBBLE(POT_MULTIPLY)
#undef POT_MULTIPLY
    }
  }
  for (int j = 1; j < 8; ++j) sums[0] = _mm256_add_ps(sums[0], sums[j]);
  float total = 0, lanes[8];
  _mm256_storeu_ps(lanes, sums[0]);
  for (const float lane : lanes) total += lane;
  return total;
}

template <typename Method>
POT_AVX512 void Avx512Dequantize(const uint32_t* words, const float* scales,
                                 int64_t groups, float* weights) {
  for (int64_t g = 0; g < groups; ++g) {
    const Method method(scales[g]);
    const __m512i codes = _mm512_loadu_si512(words + 16 * g);
    float* const out = weights + kDequantizeGroup * g;
#define POT_STORE(j) \
  _mm512_storeu_ps(out + 16 * j, method.template Weights<j>(codes));
    POT_FOR_EACH_NIBBLE(POT_STORE)
#undef POT_STORE
  }
}

template <typename Method>
POT_AVX512 float Avx512Dot(const uint32_t* words, const float* scales,
                           int64_t groups, const float* x) {
  __m512 sums[8] = {};
  for (int64_t g = 0; g < groups; ++g) {
    const Method method(scales[g]);
    const __m512i codes = _mm512_loadu_si512(words + 16 * g);
    const float* const in = x + kDequantizeGroup * g;
#define POT_MULTIPLY(j)                                        \
  sums[j] = _mm512_fmadd_ps(method.template Weights<j>(codes), \
                            _mm512_loadu_ps(in + 16 * j), sums[j]);
    POT_FOR_EACH_NIBBLE(POT_MULTIPLY)
#undef POT_MULTIPLY
  }
  for (int j = 1; j < 8; ++j) sums[0] = _mm512_add_ps(sums[0], sums[j]);
  return _mm512_reduce_add_ps(sums[0]);
}

}  // namespace
#endif  // defined(__x86_64__)

std::vector<DequantizeKernel> DequantizeKernels() {
  std::vector<DequantizeKernel> kernels;
#if defined(__x86_64__)
  using enum Dequantization;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    kernels.push_back(
        {"avx2", "int4", kInt4, Avx2Dequantize<Avx2Int4>, Avx2Dot<Avx2Int4>});
    kernels.push_back(
        {"avx2", "pot", kPot, Avx2Dequantize<Avx2Pot>, Avx2Dot<Avx2Pot>});
  }
  if (__builtin_cpu_supports("avx512f")) {
    kernels.push_back({"avx512", "int4", kInt4, Avx512Dequantize<Avx512Int4>,
                       Avx512Dot<Avx512Int4>});
    kernels.push_back({"avx512", "pot", kPot, Avx512Dequantize<Avx512Pot>,
                       Avx512Dot<Avx512Pot>});
    kernels.push_back({"avx512", "lookup", kPot, Avx512Dequantize<Avx512Lookup>,
                       Avx512Dot<Avx512Lookup>});
  }
#endif
  return kernels;
}

}  // namespace pot
