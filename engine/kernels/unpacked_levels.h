// How the AVX-512 and AMX tiles want a block's levels unpacked.
//
// Four inputs of all 64 outputs are kPlaneBytes, byte 4*n + j holding input j
// of output n: a row of an AMX tile per 16 outputs. The next four inputs follow
// UnpackedStride() later: at once, or, for a format that is split (see
// avx512_book.inc), after the same of its negative levels.
#ifndef POT_ENGINE_KERNELS_UNPACKED_LEVELS_H_
#define POT_ENGINE_KERNELS_UNPACKED_LEVELS_H_

#include <cstdint>

#include "engine/kernels/packed_pot_matrix.h"
#include "engine/kernels/pot_tile.h"
#include "engine/quant/pot_format.h"

namespace pot {

inline constexpr int64_t kPlaneBytes = 4 * PackedPotMatrix::kBlockOutputs;

// Whether a level does not fit the biased byte.
inline bool IsSplit(const PotFormat& format) {
  for (int code = 0; code < format.num_codes(); ++code) {
    if (format.levels[code] > 127) return true;
  }
  return false;
}

inline int64_t UnpackedStride(const PotFormat& format) {
  return IsSplit(format) ? 2 * kPlaneBytes : kPlaneBytes;
}

inline int64_t UnpackedStepBytes(const PotFormat& format) {
  return 2 * UnpackedStride(format);
}

void Avx512UnpackLevels(const uint8_t* codes, const PotFormat& format,
                        int64_t steps, uint8_t* levels);

}  // namespace pot

#endif  // POT_ENGINE_KERNELS_UNPACKED_LEVELS_H_
