#include "engine/inference_engine.h"

#include "engine/base/status_macros.h"

namespace pot {

InferenceEngine::InferenceEngine(int num_threads, int64_t kv_budget_bytes)
    : pool_(num_threads),
      budget_(std::make_shared<KvBudget>(kv_budget_bytes)) {}

absl::StatusOr<std::unique_ptr<KvCache>> InferenceEngine::CreateCache(
    const LoadedModel& model, int64_t positions, int64_t shared_blocks) {
  return KvCache::Create(model.config(), model.kv_type, positions, budget_,
                         shared_blocks);
}

absl::StatusOr<absl::Span<const float>> InferenceEngine::Step(
    const LoadedModel& model, absl::Span<const ForwardSpan> spans) {
  POT_RETURN_IF_ERROR(
      Forward(*model.weights, spans, &pool_, &scratch_, &logits_));
  return absl::MakeConstSpan(logits_);
}

}  // namespace pot
