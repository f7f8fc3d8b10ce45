// The engine's front door: steps of a ragged batch over one model.
//
// Reading order of the engine: quant/pot_format.h, quant/pot_matrix.h,
// kernels/packed_pot_matrix.h, kernels/kernel_table.h, kernels/linear.h,
// gpt2/forward.h, this file.
#ifndef POT_ENGINE_INFERENCE_ENGINE_H_
#define POT_ENGINE_INFERENCE_ENGINE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/thread_pool.h"
#include "engine/gpt2/forward.h"
#include "engine/loaded_model.h"

namespace pot {

// Threads, scratch memory and the KV budget of a process. Step() runs on one
// thread at a time; CreateCache() on any.
class InferenceEngine {
 public:
  // `num_threads` in [1, 256]; `kv_budget_bytes` over all sequences.
  InferenceEngine(int num_threads, int64_t kv_budget_bytes);

  ThreadPool* pool() { return &pool_; }
  const std::shared_ptr<KvBudget>& kv_budget() const { return budget_; }

  // A cache for up to `positions` of one sequence of `model`; see
  // KvCache::Create for `shared_blocks` and errors.
  absl::StatusOr<std::unique_ptr<KvCache>> CreateCache(
      const LoadedModel& model, int64_t positions, int64_t shared_blocks = 0);

  // See Forward(). The span returned is valid until the next Step():
  // (rows asked for, V).
  absl::StatusOr<absl::Span<const float>> Step(
      const LoadedModel& model, absl::Span<const ForwardSpan> spans);

 private:
  ThreadPool pool_;
  std::shared_ptr<KvBudget> budget_;
  ForwardScratch scratch_;
  std::vector<float> logits_;
};

}  // namespace pot

#endif  // POT_ENGINE_INFERENCE_ENGINE_H_
