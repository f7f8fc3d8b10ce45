#include "tests/bench/generation.h"

#include <algorithm>

#include "engine/base/status_macros.h"
#include "tests/bench/timing.h"

namespace pot {

absl::StatusOr<Generation> Generation::Start(InferenceEngine* engine,
                                             const LoadedModel* model,
                                             int count, int64_t positions) {
  Generation generation(engine, model);
  for (int i = 0; i < count; ++i) {
    POT_ASSIGN_OR_RETURN(std::unique_ptr<KvCache> cache,
                         engine->CreateCache(*model, positions));
    generation.caches_.push_back(std::move(cache));
    generation.next_.push_back(i);
  }
  return generation;
}

absl::Status Generation::Prefill(int64_t tokens) {
  std::vector<int32_t> prompt(tokens);
  for (int64_t t = 0; t < tokens; ++t) {
    prompt[t] = static_cast<int32_t>(t * 7919 % model_->config().vocab_size);
  }
  std::vector<ForwardSpan> spans;
  for (const auto& cache : caches_) {
    spans.push_back({cache.get(), prompt, ForwardSpan::Logits::kLast});
  }
  return Run(spans);
}

absl::Status Generation::Step() {
  std::vector<ForwardSpan> spans;
  for (size_t i = 0; i < caches_.size(); ++i) {
    spans.push_back({caches_[i].get(), absl::MakeConstSpan(&next_[i], 1),
                     ForwardSpan::Logits::kLast});
  }
  return Run(spans);
}

absl::Status Generation::Run(const std::vector<ForwardSpan>& spans) {
  POT_ASSIGN_OR_RETURN(const absl::Span<const float> logits,
                       engine_->Step(*model_, spans));
  const int64_t V = model_->config().vocab_size;
  for (size_t i = 0; i < next_.size(); ++i) {
    const float* row = logits.data() + i * V;
    next_[i] = static_cast<int32_t>(std::max_element(row, row + V) - row);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<double>> Generation::TimeSteps(int64_t steps) {
  std::vector<double> seconds;
  for (int64_t i = 0; i < steps; ++i) {
    const Stopwatch stopwatch;
    POT_RETURN_IF_ERROR(Step());
    seconds.push_back(stopwatch.Seconds());
  }
  return seconds;
}

void Generation::Truncate(int64_t length) {
  for (const auto& cache : caches_) cache->Truncate(length);
}

}  // namespace pot
