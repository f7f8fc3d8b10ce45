#ifndef POT_SERVER_SIGNAL_THREAD_H_
#define POT_SERVER_SIGNAL_THREAD_H_

#include <thread>

#include "engine/base/mutex.h"

namespace pot {

// Receives SIGTERM and SIGINT on a thread of its own, so that no handler ever
// interrupts anything. One per process, made before any other thread: threads
// inherit the blocked signals. The process must end while it is alive.
class SignalThread {
 public:
  SignalThread();
  ~SignalThread();

  // Waits for the first signal and returns its number. Any further one ends
  // the process at once with status 1.
  int WaitForFirst();

 private:
  void Run();

  Mutex mutex_;
  CondVar received_;
  int first_ ABSL_GUARDED_BY(mutex_) = 0;
  std::thread thread_;
};

}  // namespace pot

#endif  // POT_SERVER_SIGNAL_THREAD_H_
