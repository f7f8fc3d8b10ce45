// What one round of the scheduler computes: a ragged batch per model.
#ifndef POT_SERVER_SERVING_ROUND_PLAN_H_
#define POT_SERVER_SERVING_ROUND_PLAN_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "engine/gpt2/forward.h"
#include "engine/loaded_model.h"

namespace pot {

class ScheduledTask;

// Those that decode plan first, then the others, each in the order of their
// admission: the first to ask for a chunk of a model's tokens gets one, so that
// the oldest always gets on.
class RoundPlan {
 public:
  // `chunk_tokens` gives a model's tokens for chunks; it is asked once per
  // model, when the decodes are planned. At least one row of logits, however
  // wide.
  RoundPlan(std::function<int64_t(const LoadedModel*)> chunk_tokens,
            int64_t max_logit_bytes);

  // One sequence's part in the step of a model.
  struct Item {
    ScheduledTask* task = nullptr;
    int lane = 0;  // tells the task's items apart
    ForwardSpan span;
    bool decode = false;  // one token of a generation
  };
  struct ModelStep {
    const LoadedModel* model = nullptr;
    std::vector<Item> items;
    std::optional<int64_t> chunk_tokens_left;  // unset: nobody asked
    int64_t logit_rows_left = 0;
  };

  // The next token of a sequence.
  void AddDecode(const LoadedModel* model, ScheduledTask* task, int lane,
                 ForwardSpan span);

  // Tokens that AddChunk() may still bring to this model's step, with logits
  // for each of them or for one at most.
  int64_t ChunkLimit(const LoadedModel* model, bool all_logits);
  // At most ChunkLimit() tokens, which was asked before.
  void AddChunk(const LoadedModel* model, ScheduledTask* task, int lane,
                ForwardSpan span);

  std::vector<ModelStep>& steps() { return steps_; }

 private:
  ModelStep* StepOf(const LoadedModel* model);

  const std::function<int64_t(const LoadedModel*)> chunk_tokens_;
  const int64_t max_logit_bytes_;
  std::vector<ModelStep> steps_;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_ROUND_PLAN_H_
