#include "engine/base/thread_pool.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/mutex.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using Range = std::pair<size_t, size_t>;

std::set<Range> RangesOf(ThreadPool* pool, size_t count, size_t grain) {
  Mutex mutex;
  std::set<Range> ranges;
  pool->ParallelFor(count, grain, [&](size_t begin, size_t end) {
    MutexLock lock(&mutex);
    EXPECT_TRUE(ranges.insert({begin, end}).second);
  });
  return ranges;
}

TEST(ThreadPoolTest, RangesCoverTheWholeInGrains) {
  for (int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (size_t count : {0, 1, 2, 5, 63, 64, 65, 1000}) {
      for (size_t grain : {1, 2, 64, 4096}) {
        size_t expected_begin = 0;
        for (const auto& [begin, end] : RangesOf(&pool, count, grain)) {
          EXPECT_EQ(begin, expected_begin);
          EXPECT_LT(begin, end);
          EXPECT_EQ(begin % grain, 0);
          expected_begin = end;
        }
        EXPECT_EQ(expected_begin, count);
      }
    }
  }
}

TEST(ThreadPoolTest, SplitsEvenly) {
  ThreadPool pool(3);
  EXPECT_EQ(RangesOf(&pool, 100, 10),
            (std::set<Range>{{0, 40}, {40, 70}, {70, 100}}));
  EXPECT_EQ(RangesOf(&pool, 15, 10), (std::set<Range>{{0, 10}, {10, 15}}));
}

TEST(ThreadPoolTest, HugeCountsDoNotOverflow) {
  ThreadPool pool(4);
  const size_t max = std::numeric_limits<size_t>::max();
  EXPECT_EQ(RangesOf(&pool, max, max), (std::set<Range>{{0, max}}));
  EXPECT_EQ(
      RangesOf(&pool, max, max / 2),
      (std::set<Range>{{0, max / 2}, {max / 2, max - 1}, {max - 1, max}}));
}

TEST(ThreadPoolTest, ClampsTheNumberOfThreads) {
  EXPECT_EQ(ThreadPool(0).num_threads(), 1);
  EXPECT_EQ(ThreadPool(-5).num_threads(), 1);
  EXPECT_EQ(ThreadPool(100000).num_threads(), 256);
}

TEST(ThreadPoolTest, PartZeroRunsOnTheCaller) {
  ThreadPool pool(2);
  for (int i = 0; i < 100; ++i) {
    std::thread::id first;
    pool.ParallelFor(2, 1, [&](size_t begin, size_t) {
      if (begin == 0) first = std::this_thread::get_id();
    });
    EXPECT_EQ(first, std::this_thread::get_id());
  }
}

// Both parts wait for each other: they only end when two threads run them.
TEST(ThreadPoolTest, PartsRunAtTheSameTimeAlsoAfterSleep) {
  ThreadPool pool(2);
  for (int pause_ms : {0, 0, 20, 20}) {
    std::this_thread::sleep_for(std::chrono::milliseconds(pause_ms));
    std::atomic<int> arrived = 0;
    pool.ParallelFor(2, 1, [&](size_t, size_t) {
      arrived.fetch_add(1);
      while (arrived.load() < 2) std::this_thread::yield();
    });
    EXPECT_EQ(arrived.load(), 2);
  }
}

// Plain writes before, within and after: the sanitizer sees any missing order.
TEST(ThreadPoolTest, StressOfShortCalls) {
  for (int threads : {2, 4, 9}) {
    ThreadPool pool(threads);
    std::vector<uint32_t> values(257, 0);
    uint32_t expected = 0;
    for (uint32_t call = 1; call <= 5000; ++call) {
      const uint32_t step = call;
      const size_t count = 1 + call % values.size();
      pool.ParallelFor(values.size(), 1 + call % 50,
                       [&values, step](size_t begin, size_t end) {
                         for (size_t i = begin; i < end; ++i) values[i] += step;
                       });
      expected += step;
      ASSERT_EQ(values[count - 1], expected);
      if (call % 1000 == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
    }
    EXPECT_EQ(values, std::vector<uint32_t>(values.size(), expected));
  }
}

TEST(ThreadPoolTest, CallerSleepsThroughALongPart) {
  ThreadPool pool(2);
  std::atomic<int> done = 0;
  for (int i = 0; i < 5; ++i) {
    std::atomic<int> arrived = 0;
    pool.ParallelFor(2, 1, [&](size_t begin, size_t) {
      arrived.fetch_add(1);
      while (arrived.load() < 2) std::this_thread::yield();
      if (begin == 1) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      done.fetch_add(1);
    });
    EXPECT_EQ(done.load(), 2 * (i + 1));
  }
}

TEST(ThreadPoolTest, PoolsComeAndGo) {
  for (int i = 0; i < 200; ++i) {
    ThreadPool pool(1 + i % 4);
    if (i % 3 == 0) continue;
    std::atomic<int> sum = 0;
    pool.ParallelFor(10, 1, [&](size_t begin, size_t end) {
      sum.fetch_add(static_cast<int>(end - begin));
    });
    EXPECT_EQ(sum.load(), 10);
  }
}

}  // namespace
}  // namespace pot
