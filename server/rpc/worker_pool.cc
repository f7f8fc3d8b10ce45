#include "server/rpc/worker_pool.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/serving/error_details.h"

namespace pot {

WorkerPool::WorkerPool(int num_threads, size_t max_queued)
    : max_queued_(max_queued) {
  for (int i = 0; i < num_threads; ++i) {
    threads_.emplace_back([this] { Run(); });
  }
}

WorkerPool::~WorkerPool() {
  std::deque<std::function<void()>> dropped;
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    dropped.swap(queue_);
    wake_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

absl::Status WorkerPool::Submit(std::function<void()> work) {
  MutexLock lock(&mutex_);
  if (stopping_) {
    return WithDetails(absl::UnavailableError("the server is shutting down"),
                       {.reason = "DRAINING", .retry_after = absl::Seconds(1)});
  }
  if (queue_.size() >= max_queued_) {
    return WithDetails(
        absl::ResourceExhaustedError(absl::StrCat(
            queue_.size(), " operations on models wait already; the limit is ",
            max_queued_)),
        {.reason = "QUEUE_FULL",
         .metadata = {{"limit", absl::StrCat(max_queued_)},
                      {"value", absl::StrCat(queue_.size())}},
         .retry_after = absl::Seconds(1)});
  }
  queue_.push_back(std::move(work));
  wake_.NotifyOne();
  return absl::OkStatus();
}

void WorkerPool::Run() {
  while (true) {
    std::function<void()> work;
    {
      MutexLock lock(&mutex_);
      while (queue_.empty() && !stopping_) wake_.Wait(&mutex_);
      if (queue_.empty()) return;
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    work();
  }
}

}  // namespace pot
