#ifndef POT_ENGINE_KERNELS_UNROLL_H_
#define POT_ENGINE_KERNELS_UNROLL_H_

// Before a loop over an array that stands for registers, of at most 16
// elements: unless it is unrolled whole, GCC keeps the array in memory.
#if defined(__clang__)
#define POT_UNROLL _Pragma("clang loop unroll(full)")
#define POT_NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define POT_UNROLL _Pragma("GCC unroll 16")
#define POT_NO_UNROLL _Pragma("GCC unroll 1")
#endif

#endif  // POT_ENGINE_KERNELS_UNROLL_H_
