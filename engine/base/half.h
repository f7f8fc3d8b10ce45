// 16-bit floats in portable arithmetic: IEEE 754 binary16 (F16), equal bit for
// bit to the F16C instructions (round to nearest even, NaNs quieted), and BF16,
// the upper half of a float.
#ifndef POT_ENGINE_BASE_HALF_H_
#define POT_ENGINE_BASE_HALF_H_

#include <bit>
#include <cstdint>

namespace pot {

// Exact: every binary16 value is a float, subnormals included.
inline float HalfBitsToFloat(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t exponent = (half >> 10) & 31;
  const uint32_t mantissa = half & 0x3ff;
  if (exponent == 31) {
    const uint32_t quiet = mantissa != 0 ? 0x400000u : 0u;
    return std::bit_cast<float>(sign | 0x7f800000u | quiet | mantissa << 13);
  }
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

// 65520 and above become infinity.
inline uint16_t FloatToHalfBits(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {  // NaN
    half = 0x7e00u | (magnitude >> 13 & 0x3ffu);
  } else if (magnitude >= 0x477ff000u) {  // 65520
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // below 2^-14: a multiple of 2^-24
    // The ulp of [0.5, 1) is 2^-24, so the sum rounds as a half does.
    half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) -
           0x3f000000u;
  } else {
    const uint32_t odd = magnitude >> 13 & 1;
    half = (magnitude - (112u << 23) + 0xfffu + odd) >> 13;
  }
  return static_cast<uint16_t>(sign | half);
}

// Exact.
inline float Bfloat16BitsToFloat(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

}  // namespace pot

#endif  // POT_ENGINE_BASE_HALF_H_
