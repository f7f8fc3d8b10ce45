#include "engine/kernels/huge_page_buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace pot {
namespace {

using Buffer = HugePageBuffer<uint8_t>;

bool Is(const Buffer& buffer, uint8_t value) {
  return std::all_of(buffer.data(), buffer.data() + buffer.size(),
                     [value](uint8_t byte) { return byte == value; });
}

TEST(HugePageBufferTest, IsZeroedAlignedAndItsOwn) {
  // Small ones that share pages, some that end a page, one beyond any arena.
  std::vector<Buffer> buffers;
  for (const size_t size :
       {1, 63, 64, 65, 300000, 1 << 20, 2 << 20, 3 << 20, 40 << 20, 7}) {
    buffers.emplace_back(size);
    EXPECT_EQ(buffers.back().size(), size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffers.back().data()) % 64, 0u);
    ASSERT_TRUE(Is(buffers.back(), 0)) << size;
    std::fill_n(buffers.back().data(), size, buffers.size());
  }
  for (size_t i = 0; i < buffers.size(); ++i) {
    EXPECT_TRUE(Is(buffers[i], i + 1)) << i;
  }
}

TEST(HugePageBufferTest, OutlivesItsNeighbours) {
  Buffer first(1000);
  std::fill_n(first.data(), 1000, 5);
  {
    Buffer second(1000);
    std::fill_n(second.data(), 1000, 6);
    first = std::move(second);
  }
  EXPECT_TRUE(Is(first, 6));
  // Never handed out again while the arena lives: still zero.
  EXPECT_TRUE(Is(Buffer(1000), 0));
}

// Whether the page that `address` lies in takes memory.
bool IsResident(const uint8_t* address) {
  const auto page_size = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t page =
      reinterpret_cast<uintptr_t>(address) / page_size * page_size;
  unsigned char resident = 0;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel's interface.
  EXPECT_EQ(mincore(reinterpret_cast<void*>(page), page_size, &resident), 0);
  return (resident & 1) != 0;
}

// Models that come and go take no more memory than those that are there,
// although a small buffer keeps their pages' arena alive.
TEST(HugePageBufferTest, PagesWithoutBuffersTakeNoMemory) {
  constexpr size_t kSize = 8 << 20;
  Buffer neighbour(1000);
  std::fill_n(neighbour.data(), neighbour.size(), 5);
  const uint8_t* middle;
  {
    Buffer large(kSize);
    std::fill_n(large.data(), kSize, 6);
    middle = large.data() + kSize / 2;
    EXPECT_TRUE(IsResident(middle));
  }
  EXPECT_FALSE(IsResident(middle));
  EXPECT_TRUE(Is(neighbour, 5));
  EXPECT_TRUE(Is(Buffer(kSize), 0));
}

TEST(HugePageBufferTest, SeveralThreadsAtOnce) {
  std::vector<std::thread> threads;
  for (int t = 1; t <= 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 50; ++i) {
        Buffer buffer(100000);
        std::fill_n(buffer.data(), buffer.size(), static_cast<uint8_t>(t));
        EXPECT_TRUE(Is(buffer, static_cast<uint8_t>(t)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(HugePageSlotsTest, SlotsAreZeroedAlignedAndUsedAgain) {
  HugePageSlots slots;
  constexpr size_t kBytes = 100000;
  std::vector<std::shared_ptr<uint8_t>> taken;
  for (int i = 0; i < 50; ++i) {
    taken.push_back(slots.Take(kBytes));
    uint8_t* const bytes = taken.back().get();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(bytes) % 64, 0u);
    ASSERT_TRUE(std::all_of(bytes, bytes + kBytes,
                            [](uint8_t byte) { return byte == 0; }));
    std::fill_n(bytes, kBytes, i + 1);
  }
  for (int i = 0; i < 50; ++i) {
    const uint8_t* const bytes = taken[i].get();
    ASSERT_TRUE(std::all_of(bytes, bytes + kBytes,
                            [i](uint8_t byte) { return byte == i + 1; }));
  }
  const uint8_t* const third = taken[2].get();
  taken[2].reset();
  taken[2] = slots.Take(kBytes);
  EXPECT_EQ(taken[2].get(), third);
  EXPECT_EQ(taken[2].get()[5], 0);
  // Another size never shares a slab.
  const auto small = slots.Take(1);
  EXPECT_EQ(*small, 0);
  EXPECT_EQ(taken[2].get()[5], 0);
}

// GPT-2's pieces of KV cache at several widths, and odd sizes around pages.
TEST(HugePageSlotsTest, SlabsHoldEightSlotsAndWasteLittle) {
  constexpr size_t kHugePage = size_t{2} << 20;
  for (const size_t slot : {64, 49152, 98304, 786432, 1048576, 1179648, 1310720,
                            2097152, 2097216, 3145728, 6553600}) {
    const size_t slab = HugePageSlots::SlabBytes(slot);
    EXPECT_EQ(slab % kHugePage, 0u) << slot;
    EXPECT_GE(slab / slot, 8u) << slot;
    EXPECT_LE(slab, 8 * slot + 4 * kHugePage) << slot;
    EXPECT_LE(slab % slot * 10, slab) << slot;  // a tenth
  }
  // Seven pages hold ten of 1.4 MiB, the six that eight take only eight.
  EXPECT_EQ(HugePageSlots::SlabBytes(1468006 / 64 * 64), 7 * kHugePage);
  // Nothing is better than nothing unused.
  EXPECT_EQ(HugePageSlots::SlabBytes(kHugePage), 8 * kHugePage);
}

TEST(HugePageSlotsTest, SlotsOutliveThePool) {
  std::shared_ptr<uint8_t> slot;
  {
    HugePageSlots slots;
    slot = slots.Take(1000);
  }
  std::fill_n(slot.get(), 1000, 7);
  EXPECT_EQ(slot.get()[999], 7);
}

TEST(HugePageSlotsTest, SeveralThreadsAtOnce) {
  HugePageSlots slots;
  std::vector<std::thread> threads;
  for (int t = 1; t <= 4; ++t) {
    threads.emplace_back([t, &slots] {
      std::vector<std::shared_ptr<uint8_t>> mine;
      for (int i = 0; i < 200; ++i) {
        mine.push_back(slots.Take(5000 + 1000 * (i % 3)));
        std::fill_n(mine.back().get(), 5000, t);
        if (mine.size() > 20) mine.erase(mine.begin() + i % 20);
      }
      for (const auto& slot : mine) {
        EXPECT_TRUE(std::all_of(slot.get(), slot.get() + 5000,
                                [t](uint8_t byte) { return byte == t; }));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(HugePageSlotsTest, TooMuchThrows) {
  HugePageSlots slots;
  EXPECT_THROW(slots.Take(SIZE_MAX), std::bad_alloc);
  EXPECT_THROW(slots.Take(size_t{1} << 56), std::bad_alloc);
  EXPECT_NE(slots.Take(10), nullptr);
}

TEST(HugePageBufferTest, TooMuchThrows) {
  EXPECT_THROW(Buffer(SIZE_MAX - 5), std::bad_alloc);
  EXPECT_THROW(Buffer(size_t{1} << 60), std::bad_alloc);
}

}  // namespace
}  // namespace pot
