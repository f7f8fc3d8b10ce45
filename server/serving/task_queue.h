// Tasks that wait to be admitted: first in, first out, and bounded.
#ifndef POT_SERVER_SERVING_TASK_QUEUE_H_
#define POT_SERVER_SERVING_TASK_QUEUE_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/serving/queue_pace.h"
#include "server/serving/scheduled_task.h"

namespace pot {

// Not thread-safe.
class TaskQueue {
 public:
  // `retry_after` is told to those who are refused for now. With `max_time`
  // tasks are refused which, as the queue gets shorter now, would wait longer.
  TaskQueue(int64_t max_tasks, int64_t max_tokens, absl::Duration retry_after,
            absl::Duration max_time = absl::InfiniteDuration())
      : max_tasks_(max_tasks),
        max_tokens_(max_tokens),
        retry_after_(retry_after),
        max_time_(max_time) {}

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
  // The task that was popped last is computed from `now` on.
  void RecordDeparture(absl::Time now) { pace_.OnDeparture(now, !empty()); }

  // Until so many tasks have left the queue, at its pace.
  absl::Duration TimeFor(int64_t tasks) const { return pace_.TimeFor(tasks); }
  // Those that have a deadline and were not judged, each with the number of
  // tasks before it.
  std::vector<std::pair<ScheduledTask*, int64_t>> Unjudged() const;
  // Takes out one that is there.
  std::unique_ptr<ScheduledTask> Take(const ScheduledTask* task);

  // Takes out the tasks that were cancelled or have expired.
  std::vector<std::unique_ptr<ScheduledTask>> TakeDead(absl::Time now);
  std::vector<std::unique_ptr<ScheduledTask>> TakeAll();

 private:
  const int64_t max_tasks_;
  const int64_t max_tokens_;
  const absl::Duration retry_after_;
  const absl::Duration max_time_;
  QueuePace pace_;
  std::deque<std::unique_ptr<ScheduledTask>> tasks_;
  int64_t tokens_ = 0;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_TASK_QUEUE_H_
