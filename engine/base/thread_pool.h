// Threads for one computation at a time: ParallelFor splits a range, runs part
// 0 on the caller and returns when all parts are done. Which thread runs what
// never changes a result: parts share no floating-point accumulator.
#ifndef POT_ENGINE_BASE_THREAD_POOL_H_
#define POT_ENGINE_BASE_THREAD_POOL_H_

#include <cstddef>
#include <memory>

#include "absl/functional/function_ref.h"

namespace pot {

class ThreadPool {
 public:
  // `num_threads` in [1, 256], the caller's included. Workers spin briefly for
  // the next call and then sleep, so an idle pool costs nothing.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;

  // Calls fn(begin, end) on disjoint ranges that cover [0, count), each a
  // multiple of `grain` long but the last. One caller at a time; not
  // reentrant. fn must not throw.
  void ParallelFor(size_t count, size_t grain,
                   absl::FunctionRef<void(size_t, size_t)> fn);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pot

#endif  // POT_ENGINE_BASE_THREAD_POOL_H_
