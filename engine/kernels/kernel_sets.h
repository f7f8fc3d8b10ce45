// What kernel_table.cc puts its tables together from. Every function obeys the
// contract of the KernelTable member of the same name.
#ifndef POT_ENGINE_KERNELS_KERNEL_SETS_H_
#define POT_ENGINE_KERNELS_KERNEL_SETS_H_

#include <cstdint>

#include "engine/kernels/kernel_table.h"
#include "engine/kernels/pot_blocks.h"
#include "engine/kernels/pot_tile.h"
#include "engine/quant/pot_format.h"

namespace pot {

using PotDotFunction = void(const uint8_t* codes, const PotFormat& format,
                            const int8_t* a, int64_t a_stride, int num_rows,
                            int64_t steps, int32_t* acc);

PotDotFunction ScalarPotDot;
PotDotFunction ShiftPotDot;

// add_scaled and all float operations: the one source float_ops.inc, compiled
// for the baseline instruction set.
void SetBaselineFloatOps(KernelTable* table);

#if defined(__x86_64__)
PotDotFunction Avx2PotDot;
PotDotFunction Avx512VnniPotDot;
PotDotFunction Avx512VbmiPotDot;
PotBlocksFunction Avx512VnniPotBlocks;
PotBlocksFunction Avx512VbmiPotBlocks;
void SetAvx2FloatOps(KernelTable* table);
void SetAvx512FloatOps(KernelTable* table);
extern const PotTile kAvx512PotTile;
extern const PotTile kAmxPotTile;
#elif defined(__aarch64__)
PotDotFunction NeonPotDot;
#endif

}  // namespace pot

#endif  // POT_ENGINE_KERNELS_KERNEL_SETS_H_
