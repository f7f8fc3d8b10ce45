#include "engine/quant/paper_rounding.h"

#include <bit>
#include <cstdint>

namespace pot {

float RoundHalfEven(float magnitude) {
  constexpr float kInteger = 8388608.0f;  // 2^23: no fraction from here on
  if (!(magnitude < kInteger)) return magnitude;
  return (magnitude + kInteger) - kInteger;
}

// With a = M * 2^(e-23), M the 24-bit mantissa, the real log2 a crosses e + 1/2
// at M = sqrt(2) * 2^23 = 11863283.2, which no integer is. So round(log2 a) is
// e below and e + 1 above, but for the float32 value of log2 a itself being
// e + 1/2, which round() then takes to the even neighbour:
//
// Near e + 1/2 floats are 2^-19 apart for e >= 16 (2^-20 for 8 <= e < 16, and
// so on), so log2 a becomes e + 1/2 when it is within 2^-20 of it: for M
// within 11863283.2 * ln 2 * 2^-20 = 7.84 of the crossing, [11863276,
// 11863291]. An even e keeps these, an odd one gives them to e + 1.
//
// For e < 16 the interval is 3.92 or less, [11863280, 11863287], and M is a
// multiple of 2^(23-e) >= 256, of which none lies there or in the interval for
// e = 16, 17 and 18 (multiples of 128, 64, 32: the nearest is 11863296): one
// constant inside does for all of them.
int RoundedLog2(float a) {
  constexpr uint32_t kFirstUpEven = 11863292;
  constexpr uint32_t kFirstUpOdd = 11863276;
  const uint32_t bits = std::bit_cast<uint32_t>(a);
  const int exponent = static_cast<int>(bits >> 23) - 127;
  const uint32_t mantissa = (bits & 0x7fffff) | 0x800000;
  const uint32_t first_up = exponent % 2 == 0 ? kFirstUpEven : kFirstUpOdd;
  return exponent + (mantissa >= first_up ? 1 : 0);
}

}  // namespace pot
