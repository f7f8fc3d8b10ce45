#include "server/serving/round_plan.h"

#include <algorithm>
#include <utility>

namespace pot {

RoundPlan::RoundPlan(std::function<int64_t(const LoadedModel*)> chunk_tokens,
                     int64_t max_logit_bytes)
    : chunk_tokens_(std::move(chunk_tokens)),
      max_logit_bytes_(max_logit_bytes) {}

void RoundPlan::AddDecode(const LoadedModel* model, ScheduledTask* task,
                          int lane, ForwardSpan span) {
  StepOf(model)->items.push_back({task, lane, span, /*decode=*/true});
}

int64_t RoundPlan::ChunkLimit(const LoadedModel* model, bool all_logits) {
  ModelStep* step = StepOf(model);
  if (!step->chunk_tokens_left.has_value()) {
    step->chunk_tokens_left = chunk_tokens_(model);
  }
  return all_logits ? std::min(*step->chunk_tokens_left, step->logit_rows_left)
                    : *step->chunk_tokens_left;
}

void RoundPlan::AddChunk(const LoadedModel* model, ScheduledTask* task,
                         int lane, ForwardSpan span) {
  ModelStep* step = StepOf(model);
  const int64_t tokens = static_cast<int64_t>(span.tokens.size());
  *step->chunk_tokens_left -= tokens;
  if (span.logits == ForwardSpan::Logits::kAll) step->logit_rows_left -= tokens;
  step->items.push_back({task, lane, span, /*decode=*/false});
}

RoundPlan::ModelStep* RoundPlan::StepOf(const LoadedModel* model) {
  for (ModelStep& step : steps_) {
    if (step.model == model) return &step;
  }
  const int64_t row_bytes =
      model->config().vocab_size * static_cast<int64_t>(sizeof(float));
  ModelStep step;
  step.model = model;
  step.logit_rows_left = std::max<int64_t>(max_logit_bytes_ / row_bytes, 1);
  steps_.push_back(std::move(step));
  return &steps_.back();
}

}  // namespace pot
