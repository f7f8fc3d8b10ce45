// Perplexity, with the protocol that makes the number comparable.
#ifndef POT_ENGINE_GPT2_EVALUATION_H_
#define POT_ENGINE_GPT2_EVALUATION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/thread_pool.h"
#include "engine/gpt2/model_weights.h"

namespace pot {

// A text of N tokens is cut into windows that begin every `stride` tokens and
// are at most `window` inputs long: inputs t[b..b+w-1] predict t[b+1..b+w].
// Predictions of a window that an earlier one made already are not counted, so
// every token but the first counts once. stride == window: non-overlapping.
struct EvaluationProtocol {
  int64_t window = 0;  // 1..n_positions
  int64_t stride = 0;  // 1..window
};

// INVALID_ARGUMENT naming the limit and the given value.
absl::Status ValidateProtocol(const EvaluationProtocol& protocol,
                              int64_t n_positions);

// Sums over the predicted tokens; everything else follows from them.
struct EvaluationSums {
  int64_t tokens = 0;
  int64_t bytes = 0;  // of the predicted tokens
  double nats = 0;
  double nats_squared = 0;
  // Against a reference model, when there is one.
  double kl = 0;  // sum of KL(reference || model), nats
  int64_t top1_agreements = 0;
  double reference_nats = 0;
  double difference_squared = 0;  // sum of (nats - reference's nats)^2

  double mean_nats() const;
  double perplexity() const;
  double bits_per_byte() const;
  // Of mean_nats, taking tokens as independent: s / sqrt(tokens).
  double standard_error() const;
  // Of mean_nats - reference_nats / tokens.
  double difference_standard_error() const;
};

// Cuts a token stream into windows without holding more than one of them.
class WindowCutter {
 public:
  // `protocol` is valid.
  explicit WindowCutter(EvaluationProtocol protocol);

  struct Window {
    std::vector<int32_t> tokens;  // inputs and, one later, targets: w + 1
    int64_t first_counted = 0;    // predictions before this are not counted
  };
  // Appends tokens; returns the windows that are now complete.
  std::vector<Window> Push(absl::Span<const int32_t> tokens);
  // The last, shorter window, if it still has something to count.
  std::vector<Window> Finish();

 private:
  EvaluationProtocol protocol_;
  std::vector<int32_t> pending_;  // from the next window's begin on
  int64_t counted_until_ = 0;     // predictions made, relative to pending_
};

// Adds one prediction. `logits`, and `reference_logits` unless empty: (V). All
// in double, by engine/kernels/float_math.h.
void AddPrediction(int32_t target, absl::Span<const float> logits,
                   absl::Span<const float> reference_logits,
                   int64_t target_bytes, EvaluationSums* sums);

// Evaluates `tokens` window by window, in memory that does not grow with their
// number. `reference` may be null and must share the vocabulary.
// `progress(done, total)`, in tokens, may be null; returning false makes the
// result CANCELLED. Fewer than two tokens predict nothing: the sums are zero.
// INVALID_ARGUMENT for a protocol or a token outside the model's limits,
// DATA_LOSS when a model's logits are not finite.
absl::StatusOr<EvaluationSums> Evaluate(
    const ModelWeights& weights, const ModelWeights* reference,
    absl::Span<const int32_t> tokens, EvaluationProtocol protocol,
    const std::function<int64_t(int32_t)>& token_bytes, ThreadPool* pool,
    const std::function<bool(int64_t, int64_t)>& progress);

}  // namespace pot

#endif  // POT_ENGINE_GPT2_EVALUATION_H_
