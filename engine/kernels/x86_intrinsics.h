#ifndef POT_ENGINE_KERNELS_X86_INTRINSICS_H_
#define POT_ENGINE_KERNELS_X86_INTRINSICS_H_

// GCC 12 warns of its own AVX-512 intrinsics where they leave an operand
// undefined on purpose (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>  // IWYU pragma: export
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif  // POT_ENGINE_KERNELS_X86_INTRINSICS_H_
