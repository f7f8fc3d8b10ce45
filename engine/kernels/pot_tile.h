// Products of many rows, for prefill and large batches: the codes of a block
// are unpacked once and then multiplied with all rows.
#ifndef POT_ENGINE_KERNELS_POT_TILE_H_
#define POT_ENGINE_KERNELS_POT_TILE_H_

#include <cstdint>

#include "engine/quant/pot_format.h"

namespace pot {

// One way to do it. What `unpack` writes is for `dot` alone to read.
struct PotTile {
  // Bytes of unpacked levels per step of PackedPotMatrix, at most
  // kMaxUnpackedStepBytes.
  int64_t (*step_bytes)(const PotFormat& format);
  // `levels`, 64-byte aligned, of `steps` consecutive steps of a block.
  void (*unpack)(const uint8_t* codes, const PotFormat& format, int64_t steps,
                 uint8_t* levels);
  // KernelTable::pot_dot for 1 <= num_rows <= kMaxTileRows. Meanwhile `steps`
  // steps of codes from `next_codes` on are fetched into the cache; null: none.
  void (*dot)(const uint8_t* levels, const PotFormat& format, const int8_t* a,
              int64_t a_stride, int num_rows, int64_t steps,
              const uint8_t* next_codes, int32_t* acc);
  // Rows per call of dot that suit it, and the number of rows from which all
  // this is faster than pot_dot; measured, see README.md.
  int rows_per_call;
  int min_rows;
};

inline constexpr int kMaxTileRows = 128;
inline constexpr int64_t kMaxUnpackedStepBytes = 1024;

}  // namespace pot

#endif  // POT_ENGINE_KERNELS_POT_TILE_H_
