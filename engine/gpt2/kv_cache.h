// Keys and values of past positions, in blocks from a pool with a byte budget.
#ifndef POT_ENGINE_GPT2_KV_CACHE_H_
#define POT_ENGINE_GPT2_KV_CACHE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/mutex.h"
#include "engine/gpt2/gpt2_config.h"
#include "engine/kernels/huge_page_buffer.h"

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
  // Where the memory comes from.
  HugePageSlots& slots() { return slots_; }

 private:
  const int64_t capacity_;
  mutable Mutex mutex_;
  int64_t used_ ABSL_GUARDED_BY(mutex_) = 0;
  HugePageSlots slots_;
};

// Keys and values of kBlockPositions consecutive positions. Many caches may
// hold one; none writes to it then. Its bytes go back to the budget with the
// last of them, so that what is shared counts once.
class KvBlock {
 public:
  ~KvBlock();
  KvBlock(const KvBlock&) = delete;
  KvBlock& operator=(const KvBlock&) = delete;

  int64_t bytes() const { return bytes_; }

 private:
  friend class KvCache;
  // Throws std::bad_alloc.
  KvBlock(int64_t bytes, KvBudget* budget)
      : bytes_(bytes), data_(budget->slots().Take(bytes)) {}

  const int64_t bytes_;
  const std::shared_ptr<uint8_t> data_;
  std::shared_ptr<KvBudget> budget_;  // null: none was taken of it
};

// The cache of one sequence. Capacity is reserved when it is created, so that
// a sequence that was admitted never runs out of memory in mid-stream: of the
// budget are taken the blocks that it holds and those that it may still need.
// One thread at a time, together with the caches that it shares blocks with.
class KvCache {
 public:
  static constexpr int64_t kBlockPositions = 16;

  // Bytes that `positions` of this model take, whole blocks.
  static int64_t BytesFor(const Gpt2Config& config, KvType type,
                          int64_t positions);

  // Reserves memory for all positions but those of the first `shared_blocks`
  // blocks, which Adopt() or CopyFrom() will bring. RESOURCE_EXHAUSTED, naming
  // wanted and free bytes, when the budget lacks room now; INVALID_ARGUMENT
  // when positions exceed n_positions or shared blocks the positions.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(
      const Gpt2Config& config, KvType type, int64_t positions,
      std::shared_ptr<KvBudget> budget, int64_t shared_blocks = 0);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  KvType type() const { return type_; }
  int64_t length() const { return length_; }  // positions filled
  int64_t capacity() const { return capacity_; }
  // Whether this was created for a model of that shape.
  bool Fits(const Gpt2Config& config) const;

  // Makes room for `count` more positions and counts them as filled; their
  // keys and values are stored next. Blocks among theirs that others hold too
  // are copied first. OUT_OF_RANGE beyond capacity, RESOURCE_EXHAUSTED when the
  // system has no memory, or when a block is not shared after all and the
  // budget has no more; nothing changes then.
  absl::Status Extend(int64_t count);
  // Takes over the first `count` positions of `other`, for sequences that begin
  // alike: whole blocks are shared, the rest is copied. FAILED_PRECONDITION
  // unless this is empty; INVALID_ARGUMENT when `other` is of another shape or
  // type, or shorter; else as Extend().
  absl::Status CopyFrom(const KvCache& other, int64_t count);
  // Uses `blocks`, which hold this sequence's first positions, in place of its
  // own; length() is at least theirs then. Memory that is no longer needed goes
  // back to the budget. INVALID_ARGUMENT when they are of another size or
  // exceed the capacity.
  absl::Status Adopt(absl::Span<const std::shared_ptr<KvBlock>> blocks);
  // Block b, to be shared; all its positions are filled.
  const std::shared_ptr<KvBlock>& block(int64_t b) const { return blocks_[b]; }
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
          std::shared_ptr<KvBudget> budget, int64_t reserved_bytes);

  static int64_t BlocksOf(int64_t positions) {
    return (positions + kBlockPositions - 1) / kBlockPositions;
  }
  int64_t block_bytes() const { return n_layer_ * 2 * n_head_ * part_bytes_; }
  // Makes blocks [length / kBlockPositions, end) this cache's alone.
  absl::Status OwnBlocks(int64_t end);
  // Throws std::bad_alloc. Takes its bytes of what is reserved, if anything.
  absl::StatusOr<std::shared_ptr<KvBlock>> NewBlock();
  void SetBlock(int64_t b, std::shared_ptr<KvBlock> block);
  // Gives back what is reserved beyond what may still be needed.
  void TrimReserve();

  uint8_t* Part(int64_t layer, int64_t which, int64_t head,
                int64_t block) const {
    return data_[block] + ((layer * 2 + which) * n_head_ + head) * part_bytes_;
  }

  const KvType type_;
  const int64_t n_layer_;
  const int64_t n_head_;
  const int64_t part_bytes_;  // d * kBlockPositions elements
  const int64_t capacity_;
  const std::shared_ptr<KvBudget> budget_;
  int64_t reserved_bytes_;  // for blocks to come
  // A block: (L, 2, n_head) parts. Allocated when first needed.
  std::vector<std::shared_ptr<KvBlock>> blocks_;
  std::vector<uint8_t*> data_;  // of blocks_
  int64_t length_ = 0;
};

}  // namespace pot

#endif  // POT_ENGINE_GPT2_KV_CACHE_H_
