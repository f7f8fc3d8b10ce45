#include "engine/gpt2/kv_cache.h"

#include <algorithm>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"

namespace pot {
namespace {

int64_t ElementBytes(KvType type) { return type == KvType::kF16 ? 2 : 4; }

int64_t BlockBytes(int64_t n_layer, int64_t row_bytes) {
  return n_layer * 2 * KvCache::kBlockPositions * row_bytes;
}

}  // namespace

int64_t KvBudget::used_bytes() const {
  MutexLock lock(&mutex_);
  return used_;
}

bool KvBudget::TryReserve(int64_t bytes) {
  MutexLock lock(&mutex_);
  if (bytes < 0 || bytes > capacity_ - used_) return false;
  used_ += bytes;
  return true;
}

void KvBudget::Release(int64_t bytes) {
  MutexLock lock(&mutex_);
  used_ -= bytes;
}

int64_t KvCache::BytesFor(const Gpt2Config& config, KvType type,
                          int64_t positions) {
  const int64_t blocks = (positions + kBlockPositions - 1) / kBlockPositions;
  return blocks *
         BlockBytes(config.n_layer, config.n_embd * ElementBytes(type));
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(
    const Gpt2Config& config, KvType type, int64_t positions,
    std::shared_ptr<KvBudget> budget) {
  if (positions < 1 || positions > config.n_positions) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a sequence of ", positions, " positions; the model's context is 1 to ",
        config.n_positions));
  }
  const int64_t bytes = BytesFor(config, type, positions);
  if (!budget->TryReserve(bytes)) {
    const int64_t free = budget->capacity_bytes() - budget->used_bytes();
    return absl::ResourceExhaustedError(
        absl::StrCat("KV cache of ", positions, " positions needs ", bytes,
                     " bytes, ", std::max<int64_t>(free, 0), " of ",
                     budget->capacity_bytes(), " are free"));
  }
  return std::unique_ptr<KvCache>(
      new KvCache(config, type, positions, std::move(budget)));
}

KvCache::KvCache(const Gpt2Config& config, KvType type, int64_t positions,
                 std::shared_ptr<KvBudget> budget)
    : type_(type),
      n_layer_(config.n_layer),
      row_bytes_(config.n_embd * ElementBytes(type)),
      capacity_(positions),
      reserved_bytes_(BytesFor(config, type, positions)),
      budget_(std::move(budget)) {}

KvCache::~KvCache() { budget_->Release(reserved_bytes_); }

bool KvCache::Fits(const Gpt2Config& config) const {
  return n_layer_ == config.n_layer &&
         row_bytes_ == config.n_embd * ElementBytes(type_) &&
         capacity_ <= config.n_positions;
}

absl::Status KvCache::Extend(int64_t count) {
  if (count < 0 || count > capacity_ - length_) {
    return absl::OutOfRangeError(
        absl::StrCat(count, " positions after ", length_,
                     " exceed the sequence's capacity of ", capacity_));
  }
  const int64_t blocks =
      (length_ + count + kBlockPositions - 1) / kBlockPositions;
  try {
    while (static_cast<int64_t>(blocks_.size()) < blocks) {
      blocks_.emplace_back(BlockBytes(n_layer_, row_bytes_));
    }
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for ", count, " more KV cache positions"));
  }
  length_ += count;
  return absl::OkStatus();
}

void KvCache::Truncate(int64_t length) {
  length_ = std::clamp<int64_t>(length, 0, length_);
}

uint8_t* KvCache::Row(int64_t layer, int64_t position, int64_t which) const {
  // Blocks are the cache's own memory: constness is that of their content.
  uint8_t* block =
      const_cast<uint8_t*>(blocks_[position / kBlockPositions].data());
  return block +
         ((layer * 2 + which) * kBlockPositions + position % kBlockPositions) *
             row_bytes_;
}

void* KvCache::Key(int64_t layer, int64_t position) {
  return Row(layer, position, 0);
}
void* KvCache::Value(int64_t layer, int64_t position) {
  return Row(layer, position, 1);
}
const void* KvCache::Key(int64_t layer, int64_t position) const {
  return Row(layer, position, 0);
}
const void* KvCache::Value(int64_t layer, int64_t position) const {
  return Row(layer, position, 1);
}

}  // namespace pot
