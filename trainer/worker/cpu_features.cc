#include "trainer/worker/cpu_features.h"

#include "trainer/math/products.h"

namespace pot {

std::vector<std::string> CpuFeatures() {
  std::vector<std::string> features;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) features.push_back("avx2");
  if (__builtin_cpu_supports("avx512f")) features.push_back("avx512");
#endif
  if (HasNativeBf16()) features.push_back("bf16");
  return features;
}

}  // namespace pot
