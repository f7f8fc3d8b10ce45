// Loops over floats that the compiler vectorizes for the CPU it runs on.
#ifndef POT_TRAINER_BASE_MULTIVERSION_H_
#define POT_TRAINER_BASE_MULTIVERSION_H_

// Before a function: compiles it for AVX-512, AVX2 and the baseline, and picks
// one when the program starts. Nothing contracts or reorders floating-point
// operations, so all of them give the same bits. Sanitizers run before the
// choice could be made, so they get the baseline.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define POT_MULTIVERSION \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define POT_MULTIVERSION
#endif

#endif  // POT_TRAINER_BASE_MULTIVERSION_H_
