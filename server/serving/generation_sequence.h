// One of a task's sequences: logits in, events out.
#ifndef POT_SERVER_SERVING_GENERATION_SEQUENCE_H_
#define POT_SERVER_SERVING_GENERATION_SEQUENCE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/gpt2/kv_cache.h"
#include "engine/sampling/sampler.h"
#include "engine/sampling/stop_matcher.h"
#include "engine/text/tokenizer.h"
#include "server/serving/generate_task.h"

namespace pot {

// What the sequences of a task have in common. The task outlives it.
class GenerationRules {
 public:
  explicit GenerationRules(const GenerateTask& task);

  const GenerateTask& task() const { return task_; }
  // max_new_tokens, or less where the context ends before.
  int64_t max_new_tokens() const { return max_new_tokens_; }
  // The fewest tokens with which a sequence can end: all, unless a token or a
  // string may end it before.
  int64_t least_new_tokens() const;
  // Ids that may not be drawn as token number `generated` (from 0).
  absl::Span<const int32_t> SuppressedAt(int64_t generated) const;
  // kNone when `id` ends no sequence.
  FinishReason ReasonOf(int32_t id) const;
  const StopMatcher& matcher() const { return matcher_; }

 private:
  const GenerateTask& task_;
  const int64_t max_new_tokens_;
  const int32_t end_of_text_;        // -1: none, or a token as any other
  std::vector<int32_t> ending_ids_;  // end of text and stop_token_ids
  const StopMatcher matcher_;
};

// Not thread-safe; different sequences may be used at the same time.
class GenerationSequence {
 public:
  // `rules` and its task outlive this; the sampler is given the prompt here.
  GenerationSequence(const GenerationRules* rules, int index,
                     std::unique_ptr<KvCache> cache);

  KvCache* cache() { return cache_.get(); }

  // Draws the next token from logits[V]. An error is kept for Take().
  void Draw(absl::Span<const float> logits);
  // The event of the token drawn; once after each Draw(). DATA_LOSS
  // (NON_FINITE_LOGITS); INVALID_ARGUMENT when bans and min_new_tokens leave
  // nothing to draw.
  absl::StatusOr<TokenEvent> Take();

  bool finished() const { return finished_; }
  int64_t generated() const { return generated_; }
  double cumulative_logprob() const { return cumulative_logprob_; }
  // The token to feed next; its address is stable.
  const int32_t& last_token() const { return last_token_; }

  // Frees the KV memory.
  void ReleaseCache() { cache_.reset(); }

 private:
  // Text that token `id` brings, and why the sequence ends with it, if so.
  void AppendText(int32_t id, TokenEvent* event);

  const GenerationRules* const rules_;
  const int index_;
  std::unique_ptr<KvCache> cache_;
  Sampler sampler_;
  StreamDetokenizer detokenizer_;
  StopMatcher matcher_;
  absl::StatusOr<SampledToken> drawn_;
  uint64_t logits_checksum_ = 0;  // of drawn_
  int32_t last_token_ = 0;
  int64_t generated_ = 0;
  double cumulative_logprob_ = 0;
  bool finished_ = false;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_GENERATION_SEQUENCE_H_
