// Keys and values of past positions, in blocks from a pool with a byte budget.
#ifndef POT_ENGINE_GPT2_KV_CACHE_H_
#define POT_ENGINE_GPT2_KV_CACHE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/mutex.h"
#include "engine/gpt2/gpt2_config.h"
#include "engine/kernels/aligned_buffer.h"

namespace pot {

// What a key or value is stored as. fp16 halves the memory of PoT models;
// fp32 models keep fp32, so that they are a true reference.
enum class KvType { kF32, kF16 };

// The budget that all models of a process share. Thread-safe.
class KvBudget {
 public:
  explicit KvBudget(int64_t capacity_bytes) : capacity_(capacity_bytes) {}

  int64_t capacity_bytes() const { return capacity_; }
  int64_t used_bytes() const;
  // False, and nothing taken, when `bytes` are not free.
  bool TryReserve(int64_t bytes);
  void Release(int64_t bytes);

 private:
  const int64_t capacity_;
  mutable Mutex mutex_;
  int64_t used_ ABSL_GUARDED_BY(mutex_) = 0;
};

// The cache of one sequence. Capacity is reserved when it is created, so that
// a sequence that was admitted never runs out of memory in mid-stream.
// One thread at a time.
class KvCache {
 public:
  static constexpr int64_t kBlockPositions = 16;

  // Bytes that `positions` of this model take, whole blocks.
  static int64_t BytesFor(const Gpt2Config& config, KvType type,
                          int64_t positions);

  // RESOURCE_EXHAUSTED, naming wanted and free bytes, when the budget lacks
  // room now; INVALID_ARGUMENT when positions exceed n_positions.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(
      const Gpt2Config& config, KvType type, int64_t positions,
      std::shared_ptr<KvBudget> budget);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  KvType type() const { return type_; }
  int64_t length() const { return length_; }  // positions filled
  int64_t capacity() const { return capacity_; }
  // Whether this was created for a model of that shape.
  bool Fits(const Gpt2Config& config) const;

  // Makes room for `count` more positions and counts them as filled; their
  // keys and values are stored next. OUT_OF_RANGE beyond capacity,
  // RESOURCE_EXHAUSTED when the system has no memory; nothing changes then.
  absl::Status Extend(int64_t count);
  // Takes over the first `count` positions of `other`, for sequences that begin
  // alike. FAILED_PRECONDITION unless this is empty; INVALID_ARGUMENT when
  // `other` is of another shape or type, or shorter; else as Extend().
  absl::Status CopyFrom(const KvCache& other, int64_t count);
  // Forgets positions from `length` on; keeps their memory.
  void Truncate(int64_t length);

  // One layer's and head's part of block b, which holds positions from
  // b * kBlockPositions on: keys as (d, kBlockPositions), so that attention
  // takes 16 positions at a time, values as (kBlockPositions, d), with
  // d = head_size. What lies beyond length() is defined, but means nothing.
  void* KeyBlock(int64_t layer, int64_t head, int64_t block) {
    return Part(layer, 0, head, block);
  }
  void* ValueBlock(int64_t layer, int64_t head, int64_t block) {
    return Part(layer, 1, head, block);
  }
  const void* KeyBlock(int64_t layer, int64_t head, int64_t block) const {
    return Part(layer, 0, head, block);
  }
  const void* ValueBlock(int64_t layer, int64_t head, int64_t block) const {
    return Part(layer, 1, head, block);
  }

 private:
  KvCache(const Gpt2Config& config, KvType type, int64_t positions,
          std::shared_ptr<KvBudget> budget);
  uint8_t* Part(int64_t layer, int64_t which, int64_t head,
                int64_t block) const;

  const KvType type_;
  const int64_t n_layer_;
  const int64_t n_head_;
  const int64_t part_bytes_;  // d * kBlockPositions elements
  const int64_t capacity_;
  const int64_t reserved_bytes_;
  const std::shared_ptr<KvBudget> budget_;
  // A block: (L, 2, n_head) parts. Allocated when first needed.
  std::vector<AlignedBuffer<uint8_t>> blocks_;
  int64_t length_ = 0;
};

}  // namespace pot

#endif  // POT_ENGINE_GPT2_KV_CACHE_H_
