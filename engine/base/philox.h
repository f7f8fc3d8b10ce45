// Counter-based random numbers: a number is a pure function of (key, counter),
// so a sampled token depends on its request's seed, sequence and position and
// on nothing that happened before or beside it.
//
// Philox4x32-10: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3",
// SC 2011. Checked against the paper's known-answer vectors.
#ifndef POT_ENGINE_BASE_PHILOX_H_
#define POT_ENGINE_BASE_PHILOX_H_

#include <array>
#include <cstdint>

namespace pot {

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter,
                                   std::array<uint32_t, 2> key);

// Uniform in [0, 1) with 53 bits, for draw `position` of stream `sequence`
// under `seed`.
double PhiloxUniform(uint64_t seed, uint32_t sequence, uint64_t position);

}  // namespace pot

#endif  // POT_ENGINE_BASE_PHILOX_H_
