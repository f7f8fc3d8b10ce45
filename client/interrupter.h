#ifndef POT_CLIENT_INTERRUPTER_H_
#define POT_CLIENT_INTERRUPTER_H_

#include <atomic>
#include <functional>
#include <map>
#include <thread>

#include "absl/time/time.h"
#include "engine/base/mutex.h"

namespace pot {

// What Ctrl-C means to a program that is waiting for calls and for input: the
// calls in flight are cancelled, and reads from a terminal or pipe return.
// Thread-safe.
class Interrupter {
 public:
  Interrupter();
  ~Interrupter();
  Interrupter(const Interrupter&) = delete;
  Interrupter& operator=(const Interrupter&) = delete;

  void Interrupt();
  bool interrupted() const { return interrupted_; }
  // As if it had not happened; for a loop that goes on afterwards.
  void Reset();

  // Runs `cancel` at the next Interrupt(), or now if that has happened, until
  // the returned number is removed. `cancel` must not call back.
  int AddCallback(std::function<void()> cancel);
  // `cancel` neither runs nor starts once this returned.
  void RemoveCallback(int id);

  // Sleeps for `duration`, at most until Interrupt(). False when interrupted.
  bool Sleep(absl::Duration duration) const;

  // Readable from Interrupt() until Reset(), for poll(2).
  int wake_fd() const { return wake_[0]; }

 private:
  Mutex mutex_;
  std::map<int, std::function<void()>> callbacks_ ABSL_GUARDED_BY(mutex_);
  int next_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::atomic<bool> interrupted_ = false;
  int wake_[2] = {-1, -1};
};

// Turns SIGINT into Interrupt() while it lives; a second one before Reset()
// ends the process with code 130. Construct it before any other thread, which
// must inherit the blocked signal.
class InterruptSignal {
 public:
  explicit InterruptSignal(Interrupter* interrupter);
  ~InterruptSignal();
  InterruptSignal(const InterruptSignal&) = delete;
  InterruptSignal& operator=(const InterruptSignal&) = delete;

 private:
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace pot

#endif  // POT_CLIENT_INTERRUPTER_H_
