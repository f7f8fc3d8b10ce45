#include "engine/base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "engine/base/mutex.h"

namespace pot {
namespace {

constexpr int kMaxThreads = 256;

// How long to wait awake. A layer's calls follow each other within a few
// microseconds, so about 30 us of pauses catch the next; the yields after
// them let another runnable thread have the core before we sleep.
constexpr int kPauses = 1000;
constexpr int kYields = 8;

void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// True as soon as `ready` is, false when it stayed false all the while.
template <typename Ready>
bool SpinUntil(Ready ready) {
  for (int i = 0; i < kPauses; ++i) {
    if (ready()) return true;
    Pause();
  }
  for (int i = 0; i < kYields; ++i) {
    if (ready()) return true;
    sched_yield();
  }
  return ready();
}

// Which parts of which call are still to be claimed, in one atomic word, so
// that a late worker can never claim a part of a call that has returned.
struct Ticket {
  uint32_t call = 0;
  uint16_t parts = 0;
  uint16_t next = 0;  // first unclaimed part

  static Ticket From(uint64_t word) {
    return {static_cast<uint32_t>(word >> 32),
            static_cast<uint16_t>(word >> 16), static_cast<uint16_t>(word)};
  }
  uint64_t ToWord() const {
    return uint64_t{call} << 32 | uint64_t{parts} << 16 | next;
  }
  bool HasWork() const { return next < parts; }
};

}  // namespace

// Whoever is awake claims the next part, so a worker that the system has
// descheduled, or that still sleeps, delays nobody: the caller takes its part.
class ThreadPool::Impl {
 public:
  explicit Impl(int num_threads)
      : num_threads_(std::clamp(num_threads, 1, kMaxThreads)) {
    // Where the system refuses a thread the pool does with fewer: whoever is
    // there claims all parts.
    try {
      for (int i = 1; i < num_threads_; ++i) {
        workers_.emplace_back([this] { Work(); });
      }
    } catch (const std::system_error&) {
    }
  }

  ~Impl() {
    {
      MutexLock lock(&mutex_);
      stop_.store(true);
      work_.NotifyAll();
    }
    for (std::thread& worker : workers_) worker.join();
  }

  int num_threads() const { return num_threads_; }

  void ParallelFor(size_t count, size_t grain,
                   absl::FunctionRef<void(size_t, size_t)> fn) {
    if (count == 0) return;
    grain = std::max<size_t>(grain, 1);
    const size_t grains = (count - 1) / grain + 1;
    const size_t parts = std::min<size_t>(grains, num_threads_);
    if (parts == 1) {
      fn(0, count);
      return;
    }
    // No part of the last call is unclaimed or running: nobody reads these.
    fn_.emplace(fn);
    count_ = count;
    grain_ = grain;
    grains_ = grains;
    parts_ = parts;
    unfinished_.store(static_cast<int>(parts));
    ++call_;
    // Part 0 is the caller's.
    ticket_.store(Ticket{call_, static_cast<uint16_t>(parts), 1}.ToWord());
    if (sleeping_workers_.load() > 0) {
      MutexLock lock(&mutex_);
      work_.NotifyAll();
    }
    RunPart(0);
    RunUnclaimedParts();
    WaitUntilFinished();
  }

 private:
  // Every atomic is sequentially consistent. Sleeping depends on it: a sleeper
  // announces itself and then looks for work once more, the other side
  // publishes work and then looks for sleepers, so one of them sees the other.
  void Work() {
    while (!stop_.load()) {
      if (!SpinUntil([this] { return HasWorkOrStop(); })) {
        MutexLock lock(&mutex_);
        sleeping_workers_.fetch_add(1);
        while (!HasWorkOrStop()) work_.Wait(&mutex_);
        sleeping_workers_.fetch_sub(1);
      }
      RunUnclaimedParts();
    }
  }

  bool HasWorkOrStop() const {
    return Ticket::From(ticket_.load()).HasWork() || stop_.load();
  }

  void RunUnclaimedParts() {
    uint64_t word = ticket_.load();
    while (Ticket::From(word).HasWork()) {
      Ticket claimed = Ticket::From(word);
      const size_t part = claimed.next++;
      if (ticket_.compare_exchange_weak(word, claimed.ToWord())) {
        RunPart(part);
        word = ticket_.load();
      }
    }
  }

  void RunPart(size_t part) {
    // Consecutive grains, the first `remainder` parts one more than the rest.
    const size_t share = grains_ / parts_;
    const size_t remainder = grains_ % parts_;
    const size_t first = part * share + std::min(part, remainder);
    const size_t last = first + share + (part < remainder ? 1 : 0);
    (*fn_)(first * grain_, last == grains_ ? count_ : last * grain_);
    if (unfinished_.fetch_sub(1) == 1 && caller_sleeps_.load()) {
      MutexLock lock(&mutex_);
      finished_.NotifyAll();
    }
  }

  void WaitUntilFinished() {
    if (SpinUntil([this] { return unfinished_.load() == 0; })) return;
    MutexLock lock(&mutex_);
    caller_sleeps_.store(true);
    while (unfinished_.load() != 0) finished_.Wait(&mutex_);
    caller_sleeps_.store(false);
  }

  const int num_threads_;
  std::vector<std::thread> workers_;

  // The call that runs. Written only between calls, published by ticket_ and
  // read only by whoever has claimed a part.
  std::optional<absl::FunctionRef<void(size_t, size_t)>> fn_;
  size_t count_ = 0;
  size_t grain_ = 1;
  size_t grains_ = 0;
  size_t parts_ = 1;
  uint32_t call_ = 0;

  // On lines of their own: the one is polled by idle workers, the other
  // counted down by busy ones.
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<int> unfinished_{0};

  alignas(64) Mutex mutex_;
  CondVar work_;
  CondVar finished_;
  std::atomic<int> sleeping_workers_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> stop_{false};
};

ThreadPool::ThreadPool(int num_threads)
    : impl_(std::make_unique<Impl>(num_threads)) {}

ThreadPool::~ThreadPool() = default;

int ThreadPool::num_threads() const { return impl_->num_threads(); }

void ThreadPool::ParallelFor(size_t count, size_t grain,
                             absl::FunctionRef<void(size_t, size_t)> fn) {
  impl_->ParallelFor(count, grain, fn);
}

}  // namespace pot
