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

KvBlock::~KvBlock() {
  if (budget_ != nullptr) budget_->Release(bytes());
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(
    const Gpt2Config& config, KvType type, int64_t positions,
    std::shared_ptr<KvBudget> budget, int64_t shared_blocks) {
  if (positions < 1 || positions > config.n_positions) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a sequence of ", positions, " positions; the model's context is 1 to ",
        config.n_positions));
  }
  if (shared_blocks < 0 || shared_blocks > positions / kBlockPositions) {
    return absl::InvalidArgumentError(
        absl::StrCat(shared_blocks, " shared blocks of a sequence that has ",
                     positions / kBlockPositions, " whole ones"));
  }
  const int64_t bytes =
      BytesFor(config, type, positions - shared_blocks * kBlockPositions);
  if (!budget->TryReserve(bytes)) {
    const int64_t free = budget->capacity_bytes() - budget->used_bytes();
    return absl::ResourceExhaustedError(
        absl::StrCat("KV cache of ", positions, " positions needs ", bytes,
                     " bytes, ", std::max<int64_t>(free, 0), " of ",
                     budget->capacity_bytes(), " are free"));
  }
  return std::unique_ptr<KvCache>(
      new KvCache(config, type, positions, std::move(budget), bytes));
}

KvCache::KvCache(const Gpt2Config& config, KvType type, int64_t positions,
                 std::shared_ptr<KvBudget> budget, int64_t reserved_bytes)
    : type_(type),
      n_layer_(config.n_layer),
      n_head_(config.n_head),
      part_bytes_(config.head_size() * kBlockPositions * ElementBytes(type)),
      capacity_(positions),
      budget_(std::move(budget)),
      reserved_bytes_(reserved_bytes) {}

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
  try {
    POT_RETURN_IF_ERROR(OwnBlocks(BlocksOf(length_ + count)));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for ", count, " more KV cache positions"));
  }
  length_ += count;
  return absl::OkStatus();
}

absl::Status KvCache::OwnBlocks(int64_t end) {
  for (int64_t b = length_ / kBlockPositions; b < end; ++b) {
    const bool exists = b < static_cast<int64_t>(blocks_.size());
    if (exists && blocks_[b].use_count() == 1) continue;
    POT_ASSIGN_OR_RETURN(std::shared_ptr<KvBlock> own, NewBlock());
    if (exists) {
      std::memcpy(own->data_.get(), data_[b], own->bytes());
    }
    SetBlock(b, std::move(own));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<KvBlock>> KvCache::NewBlock() {
  const std::shared_ptr<KvBlock> block(
      new KvBlock(block_bytes(), budget_.get()));
  if (reserved_bytes_ >= block->bytes()) {
    reserved_bytes_ -= block->bytes();
  } else if (!budget_->TryReserve(block->bytes())) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no KV memory for one more block of ", block->bytes(),
                     " bytes, which was to be shared"));
  }
  block->budget_ = budget_;
  return block;
}

void KvCache::SetBlock(int64_t b, std::shared_ptr<KvBlock> block) {
  uint8_t* const data = block->data_.get();
  if (b == static_cast<int64_t>(blocks_.size())) {
    data_.resize(b + 1);
    blocks_.push_back(std::move(block));
  } else {
    blocks_[b] = std::move(block);
  }
  data_[b] = data;
}

void KvCache::TrimReserve() {
  const int64_t missing =
      BlocksOf(capacity_) - static_cast<int64_t>(blocks_.size());
  const int64_t excess = reserved_bytes_ - missing * block_bytes();
  if (excess <= 0) return;
  reserved_bytes_ -= excess;
  budget_->Release(excess);
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
  if (count > capacity_) {
    return absl::OutOfRangeError(
        absl::StrCat(count, " positions to copy exceed the sequence's ",
                     "capacity of ", capacity_));
  }
  const int64_t whole = count / kBlockPositions;
  const int64_t rest = count % kBlockPositions;
  POT_RETURN_IF_ERROR(Adopt(absl::MakeConstSpan(other.blocks_).first(whole)));
  const absl::Status status = Extend(rest);
  if (!status.ok()) {
    Truncate(0);
    return status;
  }
  // All of it: what lies behind `rest` is never read.
  if (rest > 0) std::memcpy(data_[whole], other.data_[whole], block_bytes());
  return absl::OkStatus();
}

absl::Status KvCache::Adopt(absl::Span<const std::shared_ptr<KvBlock>> blocks) {
  const int64_t count = static_cast<int64_t>(blocks.size());
  if (count > capacity_ / kBlockPositions) {
    return absl::InvalidArgumentError(
        absl::StrCat(count, " blocks to share; the sequence has ",
                     capacity_ / kBlockPositions, " whole ones"));
  }
  for (const std::shared_ptr<KvBlock>& block : blocks) {
    if (block->bytes() == block_bytes()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("a block of ", block->bytes(), " bytes to share; the ",
                     "model's have ", block_bytes()));
  }
  try {
    for (int64_t b = 0; b < count; ++b) SetBlock(b, blocks[b]);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory to share KV cache blocks");
  }
  length_ = std::max(length_, count * kBlockPositions);
  TrimReserve();
  return absl::OkStatus();
}

void KvCache::Truncate(int64_t length) {
  length_ = std::clamp<int64_t>(length, 0, length_);
}

}  // namespace pot
