#include "engine/gpt2/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace pot {
namespace {

constexpr int64_t kBlock = KvCache::kBlockPositions;
static_assert(kBlock == kAttentionBlock);

// Blocks that memory is asked for ahead of their use: a head's parts of
// consecutive blocks lie too far apart for the CPU to foresee.
constexpr int64_t kPrefetchBlocks = 2;

// One tile and one head.
template <typename T>
class HeadAttention {
 public:
  HeadAttention(const KernelTable& kernels, const Gpt2Config& config,
                int64_t layer, const AttentionTile& tile, int64_t head,
                float* scores)
      : kernels_(kernels),
        layer_(layer),
        head_(head),
        tile_(tile),
        C_(config.n_embd),
        d_(config.head_size()),
        offset_(head * d_),
        blocks_((tile.first_position + tile.rows + kBlock - 1) / kBlock),
        scores_(scores) {}

  void Run(const float* qkv, float* attended) const {
    ScoreKeys(qkv + tile_.first_row * 3 * C_ + offset_);
    for (int64_t i = 0; i < tile_.rows; ++i) {
      kernels_.softmax(ScoreRow(i), Position(i) + 1);
    }
    MixValues(attended + tile_.first_row * C_ + offset_);
  }

 private:
  // scores[i][t] = q[i] . k[t] / sqrt(d) for t <= position of row i, and beyond
  // it for the rest of the block.
  void ScoreKeys(const float* queries) const {
    const float root = std::sqrt(static_cast<float>(d_));
    for (int64_t b = 0; b < blocks_; ++b) {
      if (b + kPrefetchBlocks < blocks_) Prefetch(Keys(b + kPrefetchBlocks));
      const int64_t i = FirstRowAt(b * kBlock);
      Score(queries + i * 3 * C_, tile_.rows - i, Keys(b), root,
            ScoreRow(i) + b * kBlock);
    }
  }

  // attended[i] = sum over t of scores[i][t] * v[t].
  void MixValues(float* attended) const {
    for (int64_t i = 0; i < tile_.rows; ++i) {
      std::fill_n(attended + i * C_, d_, 0.0f);
    }
    for (int64_t b = 0; b < blocks_; ++b) {
      if (b + kPrefetchBlocks < blocks_) Prefetch(Values(b + kPrefetchBlocks));
      const int64_t begin = b * kBlock;
      // Rows whose position lies in this block see a part of it, each its own.
      int64_t i = FirstRowAt(begin);
      for (; i < tile_.rows && Position(i) + 1 < begin + kBlock; ++i) {
        Mix(ScoreRow(i) + begin, 1, Values(b), Position(i) + 1 - begin,
            attended + i * C_);
      }
      if (i < tile_.rows) {
        Mix(ScoreRow(i) + begin, tile_.rows - i, Values(b), kBlock,
            attended + i * C_);
      }
    }
  }

  void Score(const float* queries, int64_t rows, const T* keys, float root,
             float* scores) const {
    if constexpr (std::is_same_v<T, float>) {
      kernels_.score_keys_f32(queries, 3 * C_, rows, keys, d_, root, scores,
                              blocks_ * kBlock);
    } else {
      kernels_.score_keys_f16(queries, 3 * C_, rows, keys, d_, root, scores,
                              blocks_ * kBlock);
    }
  }

  void Mix(const float* weights, int64_t rows, const T* values, int64_t count,
           float* sums) const {
    if constexpr (std::is_same_v<T, float>) {
      kernels_.mix_values_f32(weights, blocks_ * kBlock, rows, values, d_,
                              count, sums, C_);
    } else {
      kernels_.mix_values_f16(weights, blocks_ * kBlock, rows, values, d_,
                              count, sums, C_);
    }
  }

  void Prefetch(const T* part) const {
    const char* bytes = reinterpret_cast<const char*>(part);
    const int64_t size = kBlock * d_ * static_cast<int64_t>(sizeof(T));
    for (int64_t line = 0; line < size; line += 64) {
      __builtin_prefetch(bytes + line);
    }
  }

  const T* Keys(int64_t block) const {
    return static_cast<const T*>(tile_.cache->KeyBlock(layer_, head_, block));
  }
  const T* Values(int64_t block) const {
    return static_cast<const T*>(tile_.cache->ValueBlock(layer_, head_, block));
  }
  int64_t Position(int64_t i) const { return tile_.first_position + i; }
  // The first row that sees position t.
  int64_t FirstRowAt(int64_t t) const {
    return std::max<int64_t>(0, t - tile_.first_position);
  }
  float* ScoreRow(int64_t i) const { return scores_ + i * blocks_ * kBlock; }

  const KernelTable& kernels_;
  const int64_t layer_;
  const int64_t head_;
  const AttentionTile& tile_;
  const int64_t C_;
  const int64_t d_;
  const int64_t offset_;  // of the head in a row
  const int64_t blocks_;  // that the tile's last row sees
  float* const scores_;   // (rows, blocks * kBlock)
};

}  // namespace

void AppendTiles(const KvCache* cache, int64_t first_row, int64_t count,
                 std::vector<AttentionTile>* tiles) {
  const int64_t first_position = cache->length() - count;
  for (int64_t i = 0; i < count; i += AttentionTile::kMaxRows) {
    tiles->push_back({cache, first_row + i, first_position + i,
                      std::min(AttentionTile::kMaxRows, count - i)});
  }
}

void Attend(const KernelTable& kernels, const Gpt2Config& config, int64_t layer,
            absl::Span<const AttentionTile> tiles, const float* qkv,
            ThreadPool* pool, std::vector<float>* scratch, float* attended) {
  int64_t longest = 0;
  for (const AttentionTile& tile : tiles) {
    longest = std::max(longest, tile.first_position + tile.rows);
  }
  const int64_t worker_size =
      AttentionTile::kMaxRows * ((longest + kBlock - 1) / kBlock * kBlock);
  const int64_t tasks = static_cast<int64_t>(tiles.size()) * config.n_head;
  const int64_t workers = std::min<int64_t>(pool->num_threads(), tasks);
  if (static_cast<int64_t>(scratch->size()) < workers * worker_size) {
    scratch->resize(workers * worker_size);
  }
  // Worker w takes tasks w, w + workers, ..: late tiles see more positions
  // than early ones, so consecutive shares would be uneven.
  pool->ParallelFor(workers, 1, [&](size_t first, size_t last) {
    for (size_t w = first; w < last; ++w) {
      float* scores = scratch->data() + w * worker_size;
      for (int64_t task = w; task < tasks; task += workers) {
        const AttentionTile& tile = tiles[task / config.n_head];
        const int64_t head = task % config.n_head;
        if (tile.cache->type() == KvType::kF16) {
          HeadAttention<uint16_t>(kernels, config, layer, tile, head, scores)
              .Run(qkv, attended);
        } else {
          HeadAttention<float>(kernels, config, layer, tile, head, scores)
              .Run(qkv, attended);
        }
      }
    }
  });
}

}  // namespace pot
