#include "engine/base/philox.h"

namespace pot {
namespace {

// Multipliers and Weyl increments of the paper's Philox4x32.
constexpr uint32_t kMultiplier0 = 0xD2511F53;
constexpr uint32_t kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9;
constexpr uint32_t kWeyl1 = 0xBB67AE85;
constexpr int kRounds = 10;

constexpr uint32_t Low(uint64_t x) { return static_cast<uint32_t>(x); }
constexpr uint32_t High(uint64_t x) { return static_cast<uint32_t>(x >> 32); }

}  // namespace

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter,
                                   std::array<uint32_t, 2> key) {
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = uint64_t{kMultiplier0} * counter[0];
    const uint64_t product1 = uint64_t{kMultiplier1} * counter[2];
    counter = {High(product1) ^ counter[1] ^ key[0], Low(product1),
               High(product0) ^ counter[3] ^ key[1], Low(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

double PhiloxUniform(uint64_t seed, uint32_t sequence, uint64_t position) {
  const std::array<uint32_t, 4> bits = Philox4x32(
      {Low(position), High(position), sequence, 0}, {Low(seed), High(seed)});
  // The top 27 bits of one word and the top 26 of the next, times 2^-53.
  const uint64_t mantissa = (uint64_t{bits[0] >> 5} << 26) | (bits[1] >> 6);
  return static_cast<double>(mantissa) * 0x1p-53;
}

}  // namespace pot
