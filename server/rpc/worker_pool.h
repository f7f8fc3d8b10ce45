// Threads for what takes long and is not inference: loads, imports, diffs.
#ifndef POT_SERVER_RPC_WORKER_POOL_H_
#define POT_SERVER_RPC_WORKER_POOL_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "engine/base/mutex.h"

namespace pot {

class WorkerPool {
 public:
  // `num_threads` and `max_queued` at least 1.
  WorkerPool(int num_threads, size_t max_queued);
  // Lets running work end, drops what is queued.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // RESOURCE_EXHAUSTED (QUEUE_FULL) when `max_queued` wait already,
  // UNAVAILABLE (DRAINING) during destruction; `work` is dropped then.
  absl::Status Submit(std::function<void()> work);

 private:
  void Run();

  const size_t max_queued_;
  Mutex mutex_;
  CondVar wake_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace pot

#endif  // POT_SERVER_RPC_WORKER_POOL_H_
