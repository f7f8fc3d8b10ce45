// What both kinds of linear layer check, and how they use a pool.
#ifndef POT_ENGINE_KERNELS_LINEAR_ARGUMENTS_H_
#define POT_ENGINE_KERNELS_LINEAR_ARGUMENTS_H_

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/thread_pool.h"

namespace pot {

inline absl::Status CheckBias(size_t bias, int64_t outputs) {
  if (bias == 0 || bias == static_cast<uint64_t>(outputs)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("bias of ", bias, " values for ", outputs, " outputs"));
}

// Rows of one Forward: a prompt chunk or a training batch, far below this.
inline constexpr int64_t kMaxForwardRows = int64_t{1} << 24;

inline absl::Status CheckForward(int64_t rows) {
  if (rows >= 0 && rows <= kMaxForwardRows) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(rows, " rows; 0 to ", kMaxForwardRows, " are supported"));
}

// pool->ParallelFor, or one call on this thread when there is no pool.
inline void ParallelFor(ThreadPool* pool, size_t count, size_t grain,
                        absl::FunctionRef<void(size_t, size_t)> fn) {
  if (count == 0) return;
  if (pool == nullptr) return fn(0, count);
  pool->ParallelFor(count, grain, fn);
}

}  // namespace pot

#endif  // POT_ENGINE_KERNELS_LINEAR_ARGUMENTS_H_
