#include "server/serving/task_queue.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "server/serving/scheduler_errors.h"

namespace pot {
namespace {

using Tasks = std::vector<std::unique_ptr<ScheduledTask>>;

}  // namespace

absl::Status TaskQueue::Push(std::unique_ptr<ScheduledTask>* task) {
  const int64_t tokens = (*task)->queued_tokens();
  if (tokens > max_tokens_) {
    return ExhaustedError("QUEUED_TOKENS",
                          "the call has more tokens than may wait", max_tokens_,
                          tokens, std::nullopt);
  }
  if (size() >= max_tasks_) {
    return ExhaustedError("QUEUE_FULL", "too many calls are waiting",
                          max_tasks_, size() + 1, retry_after_);
  }
  const absl::Duration time = pace_.TimeFor(size());
  if (time > max_time_) {
    return ExhaustedError("QUEUE_FULL",
                          "the calls that are waiting take too many "
                          "milliseconds",
                          absl::ToInt64Milliseconds(max_time_),
                          absl::ToInt64Milliseconds(time),
                          std::max(retry_after_, time - max_time_));
  }
  if (tokens_ + tokens > max_tokens_) {
    return ExhaustedError("QUEUED_TOKENS",
                          "the calls that are waiting have too many tokens",
                          max_tokens_, tokens_ + tokens, retry_after_);
  }
  tasks_.push_back(std::move(*task));
  tokens_ += tokens;
  return absl::OkStatus();
}

absl::Time TaskQueue::NearestDeadline() const {
  absl::Time nearest = absl::InfiniteFuture();
  for (const auto& task : tasks_) {
    nearest = std::min(nearest, task->deadline());
  }
  return nearest;
}

std::unique_ptr<ScheduledTask> TaskQueue::PopFront() {
  std::unique_ptr<ScheduledTask> task = std::move(tasks_.front());
  tasks_.pop_front();
  tokens_ -= task->queued_tokens();
  return task;
}

std::vector<std::pair<ScheduledTask*, int64_t>> TaskQueue::Unjudged() const {
  std::vector<std::pair<ScheduledTask*, int64_t>> unjudged;
  for (size_t i = 0; i < tasks_.size(); ++i) {
    ScheduledTask* const task = tasks_[i].get();
    if (task->judged() || task->deadline() == absl::InfiniteFuture()) continue;
    unjudged.emplace_back(task, static_cast<int64_t>(i));
  }
  return unjudged;
}

std::unique_ptr<ScheduledTask> TaskQueue::Take(const ScheduledTask* task) {
  const auto found =
      std::find_if(tasks_.begin(), tasks_.end(),
                   [task](const auto& each) { return each.get() == task; });
  std::unique_ptr<ScheduledTask> taken = std::move(*found);
  tasks_.erase(found);
  tokens_ -= taken->queued_tokens();
  return taken;
}

Tasks TaskQueue::TakeDead(absl::Time now) {
  const auto first_dead = std::stable_partition(
      tasks_.begin(), tasks_.end(),
      [now](const auto& task) { return task->CheckAlive(now).ok(); });
  Tasks dead(std::make_move_iterator(first_dead),
             std::make_move_iterator(tasks_.end()));
  tasks_.erase(first_dead, tasks_.end());
  for (const auto& task : dead) tokens_ -= task->queued_tokens();
  return dead;
}

Tasks TaskQueue::TakeAll() {
  Tasks all(std::make_move_iterator(tasks_.begin()),
            std::make_move_iterator(tasks_.end()));
  tasks_.clear();
  tokens_ = 0;
  return all;
}

}  // namespace pot
