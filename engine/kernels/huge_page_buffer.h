// Memory that every token reads from end to end, weights, keys and values: on
// huge pages where the system grants them, since the CPU's prefetchers stop at
// the end of a page and page tables take cache, too.
#ifndef POT_ENGINE_KERNELS_HUGE_PAGE_BUFFER_H_
#define POT_ENGINE_KERNELS_HUGE_PAGE_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace pot {

// What is read in one go lies together: the codes of all matrices, say, behind
// each other, so that the CPU's prefetcher runs on from one to the next.
enum class HugePageStream { kCodes, kScales };

// `bytes` zeroed bytes, 64-byte aligned. Buffers of a stream that are made one
// after the other share huge pages, and a page is given back with the last of
// its buffers: for memory that is freed together. Throws std::bad_alloc.
// Thread-safe.
std::shared_ptr<void> AllocateOnHugePages(size_t bytes, HugePageStream stream);

template <typename T>
class HugePageBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  HugePageBuffer() = default;
  explicit HugePageBuffer(size_t size,
                          HugePageStream stream = HugePageStream::kCodes)
      : data_(std::static_pointer_cast<T>(
            AllocateOnHugePages(size * sizeof(T), stream))),
        size_(size) {}

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  std::shared_ptr<T> data_;
  size_t size_ = 0;
};

// Memory in pieces of few sizes that come and go: a piece that is given back is
// used again, and pages go back to the system when all their pieces are free.
// Thread-safe; pieces may outlive it.
class HugePageSlots {
 public:
  HugePageSlots();
  ~HugePageSlots();
  HugePageSlots(const HugePageSlots&) = delete;
  HugePageSlots& operator=(const HugePageSlots&) = delete;

  // `bytes` zeroed bytes, 64-byte aligned. Throws std::bad_alloc.
  std::shared_ptr<uint8_t> Take(size_t bytes);

  // Of the slabs that pieces of `slot_bytes`, a multiple of 64, are cut from:
  // room for eight, on a few pages more if that leaves a smaller part unused.
  static size_t SlabBytes(size_t slot_bytes);

 private:
  class Pool;
  const std::shared_ptr<Pool> pool_;
};

}  // namespace pot

#endif  // POT_ENGINE_KERNELS_HUGE_PAGE_BUFFER_H_
