// AMX int8. Only a CPU with AMX runs this; pot_tile_amx_test.cc runs the same
// algorithm anywhere.
#if defined(__x86_64__)

#include <algorithm>
#include <cstring>

#include "engine/kernels/kernel_sets.h"
#include "engine/kernels/packed_pot_matrix.h"
#include "engine/kernels/pot_tile.h"
#include "engine/kernels/unpacked_levels.h"
#include "engine/kernels/x86_intrinsics.h"

#define POT_TARGET \
  __attribute__((  \
      target("amx-tile,amx-int8,avx512f,avx512bw,avx512vl,avx512vnni")))
// GCC 12's intrinsics do not say that they read memory: nothing may still be
// waiting in registers.
#define POT_TILE_CONFIGURE(config)               \
  do {                                           \
    asm volatile("" : : "r"(config) : "memory"); \
    _tile_loadconfig(config);                    \
  } while (false)
#define POT_TILE_ZERO(t) _tile_zero(t)
#define POT_TILE_LOAD(t, base, stride) _tile_loadd(t, base, stride)
#define POT_TILE_STORE(t, base, stride) _tile_stored(t, base, stride)
#define POT_TILE_DOT(c, a, b) _tile_dpbsud(c, a, b)
#define POT_TILE_RELEASE() _tile_release()
#define POT_TILE_PREFETCH(address) _mm_prefetch(address, _MM_HINT_T1)

namespace pot {
namespace {

#include "engine/kernels/avx512_book.inc"
#include "engine/kernels/pot_tile_amx.inc"

}  // namespace

const PotTile kAmxPotTile = {UnpackedStepBytes, Avx512UnpackLevels, AmxDot,
                             /*rows_per_call=*/128, /*min_rows=*/8};

}  // namespace pot

#endif  // defined(__x86_64__)
