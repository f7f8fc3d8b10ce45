#include "engine/gpt2/kv_cache.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

int64_t ElementBytes(KvType type) { return type == KvType::kF16 ? 2 : 4; }

int64_t BlockBytes(const Gpt2Config& config, KvType type) {
  return config.n_layer * 2 * KvCache::kBlockPositions * config.n_embd *
         ElementBytes(type);
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
  return blocks * BlockBytes(config, type);
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
      n_head_(config.n_head),
      part_bytes_(config.head_size() * kBlockPositions * ElementBytes(type)),
      capacity_(positions),
      reserved_bytes_(BytesFor(config, type, positions)),
      budget_(std::move(budget)) {}

KvCache::~KvCache() { budget_->Release(reserved_bytes_); }

bool KvCache::Fits(const Gpt2Config& config) const {
  return n_layer_ == config.n_layer && n_head_ == config.n_head &&
         part_bytes_ ==
             config.head_size() * kBlockPositions * ElementBytes(type_) &&
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
      blocks_.emplace_back(n_layer_ * 2 * n_head_ * part_bytes_);
    }
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for ", count, " more KV cache positions"));
  }
  length_ += count;
  return absl::OkStatus();
}

absl::Status KvCache::CopyFrom(const KvCache& other, int64_t count) {
  if (length_ != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("KV cache to copy to holds ", length_, " positions"));
  }
  if (type_ != other.type_ || n_layer_ != other.n_layer_ ||
      n_head_ != other.n_head_ || part_bytes_ != other.part_bytes_) {
    return absl::InvalidArgumentError(
        "KV cache to copy belongs to a model of another shape");
  }
  if (count < 0 || count > other.length_) {
    return absl::InvalidArgumentError(absl::StrCat(
        "KV cache to copy ", count, " positions of holds ", other.length_));
  }
  POT_RETURN_IF_ERROR(Extend(count));
  // Whole blocks: what lies behind `count` in the last one is never read.
  const int64_t blocks = (count + kBlockPositions - 1) / kBlockPositions;
  for (int64_t b = 0; b < blocks; ++b) {
    std::memcpy(blocks_[b].data(), other.blocks_[b].data(),
                other.blocks_[b].size());
  }
  return absl::OkStatus();
}

void KvCache::Truncate(int64_t length) {
  length_ = std::clamp<int64_t>(length, 0, length_);
}

uint8_t* KvCache::Part(int64_t layer, int64_t which, int64_t head,
                       int64_t block) const {
  // Blocks are the cache's own memory: constness is that of their content.
  uint8_t* data = const_cast<uint8_t*>(blocks_[block].data());
  return data + ((layer * 2 + which) * n_head_ + head) * part_bytes_;
}

}  // namespace pot
