#include "server/serving/completion_predictor.h"

#include <algorithm>

namespace pot {
namespace {

// Zero for a window that is not full.
template <typename Window>
absl::Duration Fastest(const Window& window) {
  if (!window.full()) return absl::ZeroDuration();
  return *std::min_element(window.values().begin(), window.values().end());
}

}  // namespace

void CompletionPredictor::RecordStep(const LoadedModel* model,
                                     int64_t decode_sequences,
                                     int64_t chunk_tokens,
                                     absl::Duration duration) {
  duration = std::max(duration, absl::ZeroDuration());
  Pace* const pace = paces_.FindOrAdd(model);
  if (chunk_tokens == 0) {
    size_t size = 0;
    while (size + 1 < pace->decode_steps.size() &&
           (int64_t{1} << size) < decode_sequences) {
      ++size;
    }
    pace->decode_steps[size].Add(duration);
  } else if (chunk_tokens >= kMinChunkTokens) {
    const absl::Duration decoding =
        decode_sequences > 0 ? DecodeStep(*pace) : absl::ZeroDuration();
    pace->prompt_tokens.Add(
        std::max(duration - decoding, absl::ZeroDuration()) / chunk_tokens);
  }
}

absl::Duration CompletionPredictor::ComputeTime(const LoadedModel* model,
                                                int64_t prompt_tokens,
                                                int64_t decode_steps) const {
  const Pace* const pace = paces_.Find(model);
  if (pace == nullptr) return absl::ZeroDuration();
  return prompt_tokens * Fastest(pace->prompt_tokens) +
         decode_steps * DecodeStep(*pace);
}

absl::Duration CompletionPredictor::DecodeStep(const Pace& pace) {
  absl::Duration fastest = absl::InfiniteDuration();
  for (const auto& window : pace.decode_steps) {
    if (window.full()) fastest = std::min(fastest, Fastest(window));
  }
  return fastest == absl::InfiniteDuration() ? absl::ZeroDuration() : fastest;
}

}  // namespace pot
