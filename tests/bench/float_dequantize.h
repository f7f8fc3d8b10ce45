// 4-bit codes to floats, as a kernel with float arithmetic needs them: uniform
// int4 by conversion and scaling, PoT by an addition to the bits of the scale
// (PoTPTQ, arXiv 2507.11959), and both by looking up. Not what the engine does:
// it never makes floats of its weights.
#ifndef POT_TESTS_BENCH_FLOAT_DEQUANTIZE_H_
#define POT_TESTS_BENCH_FLOAT_DEQUANTIZE_H_

#include <cstdint>
#include <vector>

namespace pot {

// Weights that share a scale: 16 words of 8 codes, weight 16 j + i being nibble
// j of word i.
inline constexpr int64_t kDequantizeGroup = 128;
inline constexpr int64_t kDequantizeWords = 16;

// int4: (code - 8) * scale. PoT: a sign bit above three bits of exponent E:
// (-1)^sign * scale * 2^E, whose float is float_bits(scale) + (E << 23), the
// sign added to the top bit. scale and scale * 2^7 are normal and positive.
enum class Dequantization { kInt4, kPot };

float DequantizeCode(Dequantization kind, uint32_t code, float scale);

struct DequantizeKernel {
  const char* isa;     // "avx2", "avx512"
  const char* method;  // "int4", "pot", "lookup"
  Dequantization kind;
  // weights[128 * groups].
  void (*dequantize)(const uint32_t* words, const float* scales, int64_t groups,
                     float* weights);
  // sum weights[i] * x[i], in an order of its own.
  float (*dot)(const uint32_t* words, const float* scales, int64_t groups,
               const float* x);
};

// Those that this CPU runs; all with `dequantize` equal to DequantizeCode to
// the bit.
std::vector<DequantizeKernel> DequantizeKernels();

}  // namespace pot

#endif  // POT_TESTS_BENCH_FLOAT_DEQUANTIZE_H_
