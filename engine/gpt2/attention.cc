#include "engine/gpt2/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace pot {
namespace {

constexpr int64_t kBlock = KvCache::kBlockPositions;
static_assert(kBlock == kAttentionBlock);

// How many parts of blocks ahead of its use a part is fetched, at least.
constexpr int64_t kMinFetchedAhead = 2;
// Rows of a tile up to which reading keys and values takes longer than
// computing with them.
constexpr int64_t kFewRows = 8;

// One tile and some consecutive heads. Their keys of one block lie behind each
// other, so going through all heads of a block, then through the next block,
// reads memory in long runs. While one run is at work the next is fetched: the
// CPU's prefetcher stops at the end of a run.
template <typename T>
class HeadsAttention {
 public:
  HeadsAttention(const KernelTable& kernels, const Gpt2Config& config,
                 int64_t layer, const AttentionTile& tile, int64_t first_head,
                 int64_t num_heads, float* scores)
      : kernels_(kernels),
        layer_(layer),
        first_head_(first_head),
        num_heads_(num_heads),
        tile_(tile),
        C_(config.n_embd),
        d_(config.head_size()),
        ahead_(std::max(kMinFetchedAhead, num_heads)),
        blocks_((tile.first_position + tile.rows + kBlock - 1) / kBlock),
        scores_(scores) {}

  void Run(const float* qkv, float* attended) const {
    ScoreKeys(qkv + tile_.first_row * 3 * C_ + first_head_ * d_);
    for (int64_t head = 0; head < num_heads_; ++head) {
      for (int64_t i = 0; i < tile_.rows; ++i) {
        kernels_.softmax(ScoreRow(head, i), Position(i) + 1);
      }
    }
    MixValues(attended + tile_.first_row * C_ + first_head_ * d_);
  }

 private:
  // scores[head][i][t] = q[head, i] . k[head, t] / sqrt(d) for t <= position of
  // row i, and beyond it for the rest of the block.
  void ScoreKeys(const float* queries) const {
    const float root = std::sqrt(static_cast<float>(d_));
    for (int64_t part = 0; part < blocks_ * num_heads_; ++part) {
      const int64_t head = part % num_heads_;
      const int64_t begin = part / num_heads_ * kBlock;
      const int64_t i = FirstRowAt(begin);
      Score(queries + i * 3 * C_ + head * d_, tile_.rows - i, Keys(part), root,
            NextKeys(part), ScoreRow(head, i) + begin);
    }
  }

  // attended[head, i] = sum over t of scores[head][i][t] * v[head, t].
  void MixValues(float* attended) const {
    for (int64_t i = 0; i < tile_.rows; ++i) {
      std::fill_n(attended + i * C_, num_heads_ * d_, 0.0f);
    }
    for (int64_t part = 0; part < blocks_ * num_heads_; ++part) {
      const int64_t next_part = part + ahead_;
      const T* const next =
          next_part < blocks_ * num_heads_ ? Values(next_part) : nullptr;
      const int64_t head = part % num_heads_;
      const int64_t begin = part / num_heads_ * kBlock;
      float* const sums = attended + head * d_;
      // Rows whose position lies in this block see a part of it, each its own.
      int64_t i = FirstRowAt(begin);
      for (; i < tile_.rows && Position(i) + 1 < begin + kBlock; ++i) {
        Mix(ScoreRow(head, i) + begin, 1, Values(part), Position(i) + 1 - begin,
            nullptr, sums + i * C_);
      }
      if (i < tile_.rows) {
        Mix(ScoreRow(head, i) + begin, tile_.rows - i, Values(part), kBlock,
            next, sums + i * C_);
      }
    }
  }

  void Score(const float* queries, int64_t rows, const T* keys, float root,
             const T* next, float* scores) const {
    if constexpr (std::is_same_v<T, float>) {
      kernels_.score_keys_f32(queries, 3 * C_, rows, keys, d_, root, next,
                              scores, blocks_ * kBlock);
    } else {
      kernels_.score_keys_f16(queries, 3 * C_, rows, keys, d_, root, next,
                              scores, blocks_ * kBlock);
    }
  }

  void Mix(const float* weights, int64_t rows, const T* values, int64_t count,
           const T* next, float* sums) const {
    if constexpr (std::is_same_v<T, float>) {
      kernels_.mix_values_f32(weights, blocks_ * kBlock, rows, values, d_,
                              count, next, sums, C_);
    } else {
      kernels_.mix_values_f16(weights, blocks_ * kBlock, rows, values, d_,
                              count, next, sums, C_);
    }
  }

  // What is wanted ahead_ parts after `part` of the keys; the values follow.
  const T* NextKeys(int64_t part) const {
    const int64_t next = part + ahead_;
    const int64_t parts = blocks_ * num_heads_;
    if (next < parts) return Keys(next);
    return next - parts < parts ? Values(next - parts) : nullptr;
  }

  // Part p: head p % num_heads of block p / num_heads.
  const T* Keys(int64_t part) const {
    return static_cast<const T*>(tile_.cache->KeyBlock(
        layer_, first_head_ + part % num_heads_, part / num_heads_));
  }
  const T* Values(int64_t part) const {
    return static_cast<const T*>(tile_.cache->ValueBlock(
        layer_, first_head_ + part % num_heads_, part / num_heads_));
  }
  int64_t Position(int64_t i) const { return tile_.first_position + i; }
  // The first row that sees position t.
  int64_t FirstRowAt(int64_t t) const {
    return std::max<int64_t>(0, t - tile_.first_position);
  }
  float* ScoreRow(int64_t head, int64_t i) const {
    return scores_ + (head * tile_.rows + i) * blocks_ * kBlock;
  }

  const KernelTable& kernels_;
  const int64_t layer_;
  const int64_t first_head_;
  const int64_t num_heads_;
  const AttentionTile& tile_;
  const int64_t C_;
  const int64_t d_;
  const int64_t ahead_;   // how many parts early a part is fetched
  const int64_t blocks_;  // that the tile's last row sees
  float* const scores_;   // (num_heads, rows, blocks * kBlock)
};

// What a thread does at a time.
struct AttentionTask {
  const AttentionTile* tile;
  int64_t first_head;
  int64_t num_heads;
  int64_t worker;
};

// About what one head of a tile takes: each position is read once, and then
// computed with for each row.
int64_t CostOfHead(const AttentionTile& tile) {
  return (1 + tile.rows) * (tile.first_position + tile.rows);
}

// Each worker's share is a run of heads, from tile to tile, of equal cost.
// Heads of few rows are one task, so that they are read in one go; of more
// rows, whose scores are many and whose time goes into arithmetic, each head is
// its own.
std::vector<AttentionTask> PlanTasks(absl::Span<const AttentionTile> tiles,
                                     int64_t n_head, int64_t workers) {
  int64_t total = 0;
  for (const AttentionTile& tile : tiles) total += n_head * CostOfHead(tile);
  std::vector<AttentionTask> tasks;
  int64_t before = 0;
  for (const AttentionTile& tile : tiles) {
    const int64_t cost = CostOfHead(tile);
    for (int64_t head = 0; head < n_head; ++head, before += cost) {
      const int64_t worker = (2 * before + cost) * workers / (2 * total);
      if (tile.rows <= kFewRows && head > 0 && tasks.back().worker == worker) {
        ++tasks.back().num_heads;
      } else {
        tasks.push_back({&tile, head, 1, worker});
      }
    }
  }
  return tasks;
}

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
  const int64_t workers = std::min<int64_t>(
      pool->num_threads(), static_cast<int64_t>(tiles.size()) * config.n_head);
  const std::vector<AttentionTask> tasks =
      PlanTasks(tiles, config.n_head, workers);
  int64_t worker_size = 0;
  for (const AttentionTask& task : tasks) {
    const int64_t positions = task.tile->first_position + task.tile->rows;
    worker_size =
        std::max(worker_size, task.num_heads * task.tile->rows *
                                  ((positions + kBlock - 1) / kBlock * kBlock));
  }
  if (static_cast<int64_t>(scratch->size()) < workers * worker_size) {
    scratch->resize(workers * worker_size);
  }
  pool->ParallelFor(workers, 1, [&](size_t first, size_t last) {
    for (const AttentionTask& task : tasks) {
      if (task.worker < static_cast<int64_t>(first) ||
          task.worker >= static_cast<int64_t>(last)) {
        continue;
      }
      float* scores = scratch->data() + task.worker * worker_size;
      if (task.tile->cache->type() == KvType::kF16) {
        HeadsAttention<uint16_t>(kernels, config, layer, *task.tile,
                                 task.first_head, task.num_heads, scores)
            .Run(qkv, attended);
      } else {
        HeadsAttention<float>(kernels, config, layer, *task.tile,
                              task.first_head, task.num_heads, scores)
            .Run(qkv, attended);
      }
    }
  });
}

}  // namespace pot
