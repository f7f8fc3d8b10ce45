#include "trainer/quantization/rounding_table.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "absl/types/span.h"

namespace pot {
namespace {

// |level| that QuantizeGroup gives to x under a scale of 1.
float MagnitudeOf(float x, const QuantizeOptions& options) {
  PotCode code = 0;
  QuantizeGroup(absl::MakeConstSpan(&x, 1), 1.0f, options,
                absl::MakeSpan(&code, 1));
  return std::fabs(static_cast<float>(options.format->levels[code]));
}

}  // namespace

RoundingTable MakeRoundingTable(const QuantizeOptions& options) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  RoundingTable table;
  table.threshold.fill(std::numeric_limits<float>::infinity());
  table.first = MagnitudeOf(0.0f, options);
  table.limit = {MagnitudeOf(kLargest, options),
                 MagnitudeOf(-kLargest, options)};
  // The sign with more levels; the other's are the first of these.
  const float sign = table.limit[1] > table.limit[0] ? -1.0f : 1.0f;
  const float last = table.limit[sign < 0.0f ? 1 : 0];

  // Floats from 0 on are ordered as their bits are.
  uint32_t bits = 0;
  float magnitude = table.first;
  int steps = 0;
  while (magnitude != last) {
    uint32_t below = bits;  // rounds to `magnitude`
    uint32_t above = std::bit_cast<uint32_t>(kLargest);
    while (above - below > 1) {
      const uint32_t middle = below + (above - below) / 2;
      const float x = sign * std::bit_cast<float>(middle);
      (MagnitudeOf(x, options) == magnitude ? below : above) = middle;
    }
    const float next = MagnitudeOf(sign * std::bit_cast<float>(above), options);
    table.threshold[steps] = std::bit_cast<float>(below);
    table.rise[steps] = next - magnitude;
    ++steps;
    magnitude = next;
    bits = above;
  }
  constexpr int kBlock = RoundingTable::kStepBlock;
  table.steps = (steps + kBlock - 1) / kBlock * kBlock;
  return table;
}

}  // namespace pot
