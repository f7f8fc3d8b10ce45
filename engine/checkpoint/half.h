// 16-bit floats: IEEE 754 binary16 (F16) and its wider-ranged cousin BF16.
#ifndef POT_ENGINE_CHECKPOINT_HALF_H_
#define POT_ENGINE_CHECKPOINT_HALF_H_

#include <bit>
#include <cstdint>

namespace pot {

// Exact: every binary16 value is a float, subnormals included.
inline float HalfToFloat(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t fraction = half & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  const uint32_t wide = exponent == 0x1f ? 0xffu : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (wide << 23) | (fraction << 13));
}

// Exact: BF16 is the upper half of a float.
inline float Bfloat16ToFloat(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

// Rounds to nearest, ties to even; 65520 and above become infinity.
inline uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  constexpr uint32_t kInfinity = 0x7f800000;
  constexpr uint32_t kOverflow = 0x477ff000;   // 65520
  constexpr uint32_t kMinNormal = 0x38800000;  // 2^-14
  if (magnitude > kInfinity) return sign | 0x7e00;
  if (magnitude >= kOverflow) return sign | 0x7c00;
  if (magnitude < kMinNormal) {
    // Floats in [0.5, 1) are 2^-24 apart, as binary16's subnormals are: the
    // addition rounds to their grid.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(shifted) -
                                        std::bit_cast<uint32_t>(0.5f));
  }
  const uint32_t rebiased = magnitude - ((127u - 15u) << 23);
  const uint32_t rounded = rebiased + 0xfffu + ((rebiased >> 13) & 1u);
  return sign | static_cast<uint16_t>(rounded >> 13);
}

}  // namespace pot

#endif  // POT_ENGINE_CHECKPOINT_HALF_H_
