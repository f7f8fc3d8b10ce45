// The GPT-2 forward pass, one function for prefill and decode.
#ifndef POT_ENGINE_GPT2_FORWARD_H_
#define POT_ENGINE_GPT2_FORWARD_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/base/thread_pool.h"
#include "engine/gpt2/kv_cache.h"
#include "engine/gpt2/model_weights.h"

namespace pot {

// Part of one sequence in a ragged batch: `tokens` continue `cache`.
struct ForwardSpan {
  enum class Logits { kNone, kLast, kAll };

  KvCache* cache = nullptr;
  absl::Span<const int32_t> tokens;  // at least one
  Logits logits = Logits::kLast;
};

// Buffers of a forward pass over R rows, kept between calls.
struct ForwardScratch {
  std::vector<float> residual;    // (R, C)
  std::vector<float> branch;      // (R, C), what is about to join residual
  std::vector<float> qkv;         // (R, 3C)
  std::vector<float> attended;    // (R, C)
  std::vector<float> hidden;      // (R, n_inner)
  std::vector<float> head_input;  // (rows whose logits are wanted, C)
  std::vector<float> attention;   // see Attend()
};

// Runs all spans together. On success the caches have grown by the tokens, and
// `logits` holds the rows asked for, (rows, V), span by span. With PoT weights
// a sequence's logits are bitwise the same whatever the batch, the chunking of
// its tokens, the threads and the CPU; fp32 models promise that for one shape
// of batch only, as oneDNN's order of summation depends on it.
//
// INVALID_ARGUMENT for a span without tokens, a token outside the vocabulary,
// a cache that occurs twice or belongs to a model of another shape;
// OUT_OF_RANGE for a position beyond the cache; RESOURCE_EXHAUSTED without
// memory. Caches are then as before and `logits` is unspecified.
absl::Status Forward(const ModelWeights& weights,
                     absl::Span<const ForwardSpan> spans, ThreadPool* pool,
                     ForwardScratch* scratch, std::vector<float>* logits);

}  // namespace pot

#endif  // POT_ENGINE_GPT2_FORWARD_H_
