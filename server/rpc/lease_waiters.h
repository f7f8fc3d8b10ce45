// Calls that wait for a job without a thread each.
#ifndef POT_SERVER_RPC_LEASE_WAITERS_H_
#define POT_SERVER_RPC_LEASE_WAITERS_H_

#include <functional>
#include <list>
#include <string>
#include <thread>

#include "absl/time/time.h"
#include "engine/base/mutex.h"

namespace pot {

// One thread, which tries for all of them, the longest waiting first.
class LeaseWaiters {
 public:
  enum class Turn {
    kTry,       // look for a job
    kTimeUp,    // look once more, then answer
    kReplaced,  // answer: the same worker has come back over another call
  };
  // True when the call was answered, or nobody waits for it any more.
  using Attempt = std::function<bool(Turn turn)>;

  LeaseWaiters();
  // Waits for a try that is going on; the others are dropped.
  ~LeaseWaiters();
  LeaseWaiters(const LeaseWaiters&) = delete;
  LeaseWaiters& operator=(const LeaseWaiters&) = delete;

  // Tries at once, after every Wake() and for the last time at `until`, each on
  // the thread of this. A worker waits once: the newest call counts.
  void Add(std::string worker, absl::Time until, Attempt attempt);

  // There may be a job. Any thread; never blocks for long.
  void Wake();

 private:
  struct Waiter {
    std::string worker;
    absl::Time until;
    Attempt attempt;
    bool replaced = false;
  };
  void Run();
  void TryAll(std::list<Waiter>* waiters);

  Mutex mutex_;
  CondVar wake_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  std::list<Waiter> added_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace pot

#endif  // POT_SERVER_RPC_LEASE_WAITERS_H_
