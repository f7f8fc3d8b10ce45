#include "engine/kernels/huge_page_buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "engine/base/mutex.h"

namespace pot {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
// Pages that nobody has written to take no memory.
constexpr size_t kMinArena = 16 * kHugePage;
constexpr size_t kAlignment = 64;
constexpr size_t kMinSlotsPerSlab = 8;

size_t RoundUp(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

// Zeroed memory in whole huge pages.
class Pages {
 public:
  // `size`: a multiple of kHugePage.
  explicit Pages(size_t size) : size_(size) {
    // One huge page more, so that an aligned part of `size` is inside.
    const size_t mapped = size + kHugePage;
    void* const memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    auto* const begin = static_cast<uint8_t*>(memory);
    const size_t before =
        RoundUp(reinterpret_cast<uintptr_t>(begin), kHugePage) -
        reinterpret_cast<uintptr_t>(begin);
    base_ = begin + before;
    if (before > 0) munmap(begin, before);
    munmap(base_ + size, kHugePage - before);
    // A wish: without it, or where it is not granted, pages are small.
    madvise(base_, size, MADV_HUGEPAGE);
  }
  ~Pages() { munmap(base_, size_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  uint8_t* base() const { return base_; }
  size_t size() const { return size_; }

  // Whole huge pages are zero again, and take no memory until written to.
  void Discard(size_t begin, size_t bytes) const {
    madvise(base_ + begin, bytes, MADV_DONTNEED);
  }

 private:
  const size_t size_;
  uint8_t* base_;
};

// Handed out from front to back, never twice; but a page without buffers takes
// no memory. Thread-safe.
class Arena {
 public:
  explicit Arena(size_t size) : pages_(size), buffers_(size / kHugePage) {}

  // Null when the rest is too small.
  uint8_t* Take(size_t bytes) {
    MutexLock lock(&mutex_);
    if (bytes > pages_.size() - used_) return nullptr;
    const size_t begin = used_;
    used_ += RoundUp(bytes, kAlignment);
    for (size_t page = begin / kHugePage; page < PagesTo(begin + bytes);
         ++page) {
      ++buffers_[page];
    }
    return pages_.base() + begin;
  }

  // What Take(bytes) returned.
  void GiveBack(const uint8_t* memory, size_t bytes) {
    const size_t begin = static_cast<size_t>(memory - pages_.base());
    MutexLock lock(&mutex_);
    for (size_t page = begin / kHugePage; page < PagesTo(begin + bytes);
         ++page) {
      if (--buffers_[page] == 0) pages_.Discard(page * kHugePage, kHugePage);
    }
  }

 private:
  static size_t PagesTo(size_t end) {
    return RoundUp(end, kHugePage) / kHugePage;
  }

  const Pages pages_;
  Mutex mutex_;
  size_t used_ ABSL_GUARDED_BY(mutex_) = 0;
  // Those that have bytes in each page.
  std::vector<uint32_t> buffers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::shared_ptr<void> AllocateOnHugePages(size_t bytes, HugePageStream stream) {
  static Mutex mutex;
  // Each stream's arena that still has room; alive as long as one of its
  // buffers.
  static std::weak_ptr<Arena> arenas[2];
  std::weak_ptr<Arena>& last = arenas[static_cast<int>(stream)];
  if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
  MutexLock lock(&mutex);
  std::shared_ptr<Arena> arena = last.lock();
  uint8_t* memory = arena == nullptr ? nullptr : arena->Take(bytes);
  if (memory == nullptr) {
    arena =
        std::make_shared<Arena>(std::max(kMinArena, RoundUp(bytes, kHugePage)));
    memory = arena->Take(bytes);
    last = arena;
  }
  return std::shared_ptr<void>(
      memory, [arena = std::move(arena), bytes](void* buffer) {
        arena->GiveBack(static_cast<const uint8_t*>(buffer), bytes);
      });
}

// Slabs of slots of one size.
class HugePageSlots::Pool : public std::enable_shared_from_this<Pool> {
 public:
  std::shared_ptr<uint8_t> Take(size_t bytes) {
    if (bytes > SIZE_MAX / 2 / kMinSlotsPerSlab) throw std::bad_alloc();
    const size_t slot_bytes = RoundUp(std::max<size_t>(bytes, 1), kAlignment);
    Slab* slab;
    uint8_t* memory;
    {
      MutexLock lock(&mutex_);
      slab = SlabWithRoom(slot_bytes);
      memory = slab->free.back();
      slab->free.pop_back();
    }
    // Its pages may have been another's.
    std::memset(memory, 0, bytes);
    return std::shared_ptr<uint8_t>(
        memory, [pool = shared_from_this(), slab](uint8_t* slot) {
          pool->GiveBack(slab, slot);
        });
  }

 private:
  struct Slab {
    Slab(size_t bytes, size_t slot_size) : pages(bytes), slot_bytes(slot_size) {
      slots = bytes / slot_size;
      free.reserve(slots);  // giving back never allocates
      for (size_t i = slots; i-- > 0;) {
        free.push_back(pages.base() + i * slot_size);
      }
    }

    const Pages pages;
    const size_t slot_bytes;
    size_t slots;
    std::vector<uint8_t*> free;
  };

  Slab* SlabWithRoom(size_t slot_bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (const auto& slab : slabs_) {
      if (slab->slot_bytes == slot_bytes && !slab->free.empty()) {
        return slab.get();
      }
    }
    slabs_.push_back(std::make_unique<Slab>(SlabBytes(slot_bytes), slot_bytes));
    return slabs_.back().get();
  }

  void GiveBack(Slab* slab, uint8_t* slot) {
    MutexLock lock(&mutex_);
    slab->free.push_back(slot);
    if (slab->free.size() < slab->slots) return;
    slabs_.erase(std::find_if(
        slabs_.begin(), slabs_.end(),
        [slab](const auto& other) { return other.get() == slab; }));
  }

  Mutex mutex_;
  std::vector<std::unique_ptr<Slab>> slabs_ ABSL_GUARDED_BY(mutex_);
};

size_t HugePageSlots::SlabBytes(size_t slot_bytes) {
  const size_t least = RoundUp(kMinSlotsPerSlab * slot_bytes, kHugePage);
  const auto unused = [slot_bytes](size_t bytes) {
    return static_cast<double>(bytes % slot_bytes) / static_cast<double>(bytes);
  };
  size_t best = least;
  for (size_t pages = 1; pages <= 3; ++pages) {
    const size_t bytes = least + pages * kHugePage;
    if (unused(bytes) < unused(best)) best = bytes;
  }
  return best;
}

HugePageSlots::HugePageSlots() : pool_(std::make_shared<Pool>()) {}
HugePageSlots::~HugePageSlots() = default;

std::shared_ptr<uint8_t> HugePageSlots::Take(size_t bytes) {
  return pool_->Take(bytes);
}

}  // namespace pot
