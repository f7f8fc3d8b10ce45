// Causal multi-head attention over cached keys and values.
#ifndef POT_ENGINE_GPT2_ATTENTION_H_
#define POT_ENGINE_GPT2_ATTENTION_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/base/thread_pool.h"
#include "engine/gpt2/gpt2_config.h"
#include "engine/gpt2/kv_cache.h"
#include "engine/kernels/kernel_table.h"

namespace pot {

// Consecutive rows of one sequence that attend together, so that a block of
// keys or values is read once for all of them.
struct AttentionTile {
  static constexpr int64_t kMaxRows = 16;

  const KvCache* cache = nullptr;
  int64_t first_row = 0;       // in the batch
  int64_t first_position = 0;  // in the sequence, of first_row
  int64_t rows = 0;            // 1..kMaxRows
};

// Appends the tiles of the `count` rows from `first_row` on, which are the last
// `count` positions of `cache`.
void AppendTiles(const KvCache* cache, int64_t first_row, int64_t count,
                 std::vector<AttentionTile>* tiles);

// For every row r of every tile and every head h, with d = head_size:
//   attended[r, h] = sum over t <= position of
//       softmax_t(q[r, h] . k[t, h] / sqrt(d)) * v[t, h]
// in the order of t. qkv: (R, 3C), of which the queries are read; the keys and
// values of all positions, the tiles' own included, are in the caches.
// attended: (R, C). A row's bits depend on its query and its sequence alone.
//
// `scratch` grows to what num_threads workers need: for each the scores of one
// head of a tile, or of all heads of few rows, over the longest sequence.
void Attend(const KernelTable& kernels, const Gpt2Config& config, int64_t layer,
            absl::Span<const AttentionTile> tiles, const float* qkv,
            ThreadPool* pool, std::vector<float>* scratch, float* attended);

}  // namespace pot

#endif  // POT_ENGINE_GPT2_ATTENTION_H_
