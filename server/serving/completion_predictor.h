// How long a task will take at least, from what recent steps took.
#ifndef POT_SERVER_SERVING_COMPLETION_PREDICTOR_H_
#define POT_SERVER_SERVING_COMPLETION_PREDICTOR_H_

#include <array>
#include <cstdint>

#include "absl/time/time.h"
#include "engine/loaded_model.h"
#include "server/serving/per_model.h"

namespace pot {

// For refusing what cannot end in time, so every prediction is on the low side:
// of the last steps with each size of batch the fastest one of all counts, as
// the others in a batch may end at any time. Zero for what was not measured.
// Not thread-safe.
class CompletionPredictor {
 public:
  // Of the last values. Nothing is predicted from fewer.
  static constexpr int64_t kSteps = 16;
  static constexpr int64_t kChunks = 4;
  // Shorter chunks say little of the time per token of long ones.
  static constexpr int64_t kMinChunkTokens = 16;

  // A step of `model` was made, as for ChunkPacer::Record().
  void RecordStep(const LoadedModel* model, int64_t decode_sequences,
                  int64_t chunk_tokens, absl::Duration duration);

  // Of a prompt or window that is not computed yet, and of the decode steps
  // after it.
  absl::Duration ComputeTime(const LoadedModel* model, int64_t prompt_tokens,
                             int64_t decode_steps) const;

 private:
  // The last kSize values.
  template <int64_t kSize>
  class Window {
   public:
    void Add(absl::Duration value) {
      values_[count_ % kSize] = value;
      ++count_;
    }
    bool full() const { return count_ >= kSize; }
    const std::array<absl::Duration, kSize>& values() const { return values_; }

   private:
    std::array<absl::Duration, kSize> values_;
    int64_t count_ = 0;  // ever added
  };

  struct Pace {
    // [i]: decode-only steps of 2^(i-1) < sequences <= 2^i, or more.
    std::array<Window<kSteps>, 8> decode_steps;
    Window<kChunks> prompt_tokens;  // each
  };

  // Zero while no size of batch has enough steps.
  static absl::Duration DecodeStep(const Pace& pace);

  PerModel<Pace> paces_;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_COMPLETION_PREDICTOR_H_
