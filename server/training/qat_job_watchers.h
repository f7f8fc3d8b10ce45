#ifndef POT_SERVER_TRAINING_QAT_JOB_WATCHERS_H_
#define POT_SERVER_TRAINING_QAT_JOB_WATCHERS_H_

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/base/mutex.h"
#include "server/training/qat_job_store.h"

namespace pot {

// Ends with the handle; see QatJobStore::Watch().
class QatJobStore::Subscription {
 public:
  using Observer = std::function<void(const std::string& job_id)>;

  Subscription(std::string job_id, Observer observer)
      : state_(
            std::make_shared<State>(std::move(job_id), std::move(observer))) {}
  // Waits for a call that is going on.
  ~Subscription();
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;

 private:
  friend class QatJobWatchers;
  struct State {
    State(std::string watched_job, Observer its_observer)
        : job_id(std::move(watched_job)), observer(std::move(its_observer)) {}

    const std::string job_id;
    Mutex mutex;
    Observer observer ABSL_GUARDED_BY(mutex);  // null: over
  };
  const std::shared_ptr<State> state_;
};

// Those to be told. Thread-safe.
class QatJobWatchers {
 public:
  std::shared_ptr<QatJobStore::Subscription> Add(
      absl::string_view job_id, QatJobStore::Subscription::Observer observer);
  void Notify(const std::set<std::string>& job_ids);

 private:
  Mutex mutex_;
  std::vector<std::weak_ptr<QatJobStore::Subscription::State>> watchers_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace pot

#endif  // POT_SERVER_TRAINING_QAT_JOB_WATCHERS_H_
