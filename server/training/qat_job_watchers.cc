#include "server/training/qat_job_watchers.h"

#include <algorithm>
#include <utility>

namespace pot {

QatJobStore::Subscription::~Subscription() {
  MutexLock lock(&state_->mutex);
  state_->observer = nullptr;
}

std::shared_ptr<QatJobStore::Subscription> QatJobWatchers::Add(
    absl::string_view job_id, QatJobStore::Subscription::Observer observer) {
  auto subscription = std::make_shared<QatJobStore::Subscription>(
      std::string(job_id), std::move(observer));
  MutexLock lock(&mutex_);
  watchers_.erase(
      std::remove_if(watchers_.begin(), watchers_.end(),
                     [](const auto& watcher) { return watcher.expired(); }),
      watchers_.end());
  watchers_.push_back(subscription->state_);
  return subscription;
}

void QatJobWatchers::Notify(const std::set<std::string>& job_ids) {
  if (job_ids.empty()) return;
  std::vector<std::shared_ptr<QatJobStore::Subscription::State>> watchers;
  {
    MutexLock lock(&mutex_);
    for (const auto& watcher : watchers_) {
      auto state = watcher.lock();
      if (state != nullptr) watchers.push_back(std::move(state));
    }
  }
  for (const auto& state : watchers) {
    MutexLock lock(&state->mutex);
    for (const std::string& job_id : job_ids) {
      if (state->observer == nullptr) break;
      if (state->job_id.empty() || state->job_id == job_id) {
        state->observer(job_id);
      }
    }
  }
}

}  // namespace pot
