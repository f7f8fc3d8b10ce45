// Tasks that wait to be admitted: first in, first out, and bounded.
#ifndef POT_SERVER_SERVING_TASK_QUEUE_H_
#define POT_SERVER_SERVING_TASK_QUEUE_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/serving/scheduled_task.h"

namespace pot {

// Not thread-safe.
class TaskQueue {
 public:
  // `retry_after` is told to those who are refused for now.
  TaskQueue(int64_t max_tasks, int64_t max_tokens, absl::Duration retry_after)
      : max_tasks_(max_tasks),
        max_tokens_(max_tokens),
        retry_after_(retry_after) {}

  // RESOURCE_EXHAUSTED (QUEUE_FULL, QUEUED_TOKENS) with a retry time, or
  // without one for a task of more tokens than may ever wait; `task` then
  // stays with the caller, to be destroyed outside of the caller's lock.
  absl::Status Push(std::unique_ptr<ScheduledTask>* task);

  bool empty() const { return tasks_.empty(); }
  int64_t size() const { return static_cast<int64_t>(tasks_.size()); }
  int64_t tokens() const { return tokens_; }
  // InfiniteFuture when nothing waits for one.
  absl::Time NearestDeadline() const;

  // Not empty. The task stays where it is however many are pushed.
  ScheduledTask* front() const { return tasks_.front().get(); }
  std::unique_ptr<ScheduledTask> PopFront();

  // Takes out the tasks that were cancelled or have expired.
  std::vector<std::unique_ptr<ScheduledTask>> TakeDead(absl::Time now);
  std::vector<std::unique_ptr<ScheduledTask>> TakeAll();

 private:
  const int64_t max_tasks_;
  const int64_t max_tokens_;
  const absl::Duration retry_after_;
  std::deque<std::unique_ptr<ScheduledTask>> tasks_;
  int64_t tokens_ = 0;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_TASK_QUEUE_H_
