#include <cstdint>

#include "engine/base/half.h"
#include "engine/kernels/kernel_sets.h"

#define POT_TARGET

#include "engine/kernels/float_ops.inc"

namespace pot {

void SetBaselineFloatOps(KernelTable* table) { SetFloatOps(table); }

}  // namespace pot
