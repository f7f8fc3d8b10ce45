#include "engine/gpt2/attention.h"

#include <algorithm>
#include <cmath>

namespace pot {
namespace {

constexpr int64_t kBlock = KvCache::kBlockPositions;

// One tile and one head.
class HeadAttention {
 public:
  HeadAttention(const KernelTable& kernels, const Gpt2Config& config,
                int64_t layer, const AttentionTile& tile, int64_t head,
                float* widened, float* scores)
      : kernels_(kernels),
        layer_(layer),
        head_(head),
        tile_(tile),
        C_(config.n_embd),
        d_(config.head_size()),
        offset_(head * d_),
        end_(tile.first_position + tile.rows),
        widened_(widened),
        scores_(scores) {}

  void Run(const float* qkv, float* attended) const {
    ScoreKeys(qkv);
    for (int64_t i = 0; i < tile_.rows; ++i) {
      kernels_.softmax(ScoreRow(i), Position(i) + 1);
    }
    MixValues(attended);
  }

 private:
  // scores[i][t] = q[i] . k[t] / sqrt(d) for t <= position of row i.
  void ScoreKeys(const float* qkv) const {
    const float root = std::sqrt(static_cast<float>(d_));
    for (int64_t begin = 0; begin < end_; begin += kBlock) {
      const int64_t block_end = std::min(begin + kBlock, end_);
      const float* keys =
          Widen(tile_.cache->Key(layer_, head_, begin), block_end - begin);
      for (int64_t i = FirstRowAt(begin); i < tile_.rows; ++i) {
        const float* query = qkv + (tile_.first_row + i) * 3 * C_ + offset_;
        float* row = ScoreRow(i);
        const int64_t row_end = std::min(block_end, Position(i) + 1);
        for (int64_t t = begin; t < row_end; ++t) {
          row[t] = kernels_.dot(query, keys + (t - begin) * d_, d_) / root;
        }
      }
    }
  }

  // attended[i] = sum over t of scores[i][t] * v[t].
  void MixValues(float* attended) const {
    for (int64_t i = 0; i < tile_.rows; ++i) {
      std::fill_n(Attended(attended, i), d_, 0.0f);
    }
    for (int64_t begin = 0; begin < end_; begin += kBlock) {
      const int64_t block_end = std::min(begin + kBlock, end_);
      const float* values =
          Widen(tile_.cache->Value(layer_, head_, begin), block_end - begin);
      for (int64_t i = FirstRowAt(begin); i < tile_.rows; ++i) {
        const float* row = ScoreRow(i);
        float* sum = Attended(attended, i);
        const int64_t row_end = std::min(block_end, Position(i) + 1);
        for (int64_t t = begin; t < row_end; ++t) {
          kernels_.axpy(row[t], values + (t - begin) * d_, d_, sum);
        }
      }
    }
  }

  // (positions, d) of the cache as floats.
  const float* Widen(const void* rows, int64_t positions) const {
    if (tile_.cache->type() == KvType::kF32) {
      return static_cast<const float*>(rows);
    }
    kernels_.half_to_float(static_cast<const uint16_t*>(rows), positions * d_,
                           widened_);
    return widened_;
  }

  int64_t Position(int64_t i) const { return tile_.first_position + i; }
  // The first row that sees position t.
  int64_t FirstRowAt(int64_t t) const {
    return std::max<int64_t>(0, t - tile_.first_position);
  }
  float* ScoreRow(int64_t i) const { return scores_ + i * end_; }
  float* Attended(float* attended, int64_t i) const {
    return attended + (tile_.first_row + i) * C_ + offset_;
  }

  const KernelTable& kernels_;
  const int64_t layer_;
  const int64_t head_;
  const AttentionTile& tile_;
  const int64_t C_;
  const int64_t d_;
  const int64_t offset_;  // of the head in a row
  const int64_t end_;     // positions that the tile's last row sees
  float* const widened_;
  float* const scores_;  // (rows, end)
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
  const int64_t widened_size = kBlock * config.head_size();
  const int64_t worker_size = widened_size + AttentionTile::kMaxRows * longest;
  const int64_t tasks = static_cast<int64_t>(tiles.size()) * config.n_head;
  const int64_t workers = std::min<int64_t>(pool->num_threads(), tasks);
  if (static_cast<int64_t>(scratch->size()) < workers * worker_size) {
    scratch->resize(workers * worker_size);
  }
  // Worker w takes tasks w, w + workers, ..: late tiles see more positions
  // than early ones, so consecutive shares would be uneven.
  pool->ParallelFor(workers, 1, [&](size_t first, size_t last) {
    for (size_t w = first; w < last; ++w) {
      float* widened = scratch->data() + w * worker_size;
      for (int64_t task = w; task < tasks; task += workers) {
        HeadAttention(kernels, config, layer, tiles[task / config.n_head],
                      task % config.n_head, widened, widened + widened_size)
            .Run(qkv, attended);
      }
    }
  });
}

}  // namespace pot
