#include "server/signal_thread.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

namespace pot {
namespace {

// What the destructor sends to end the thread.
constexpr int kStopSignal = SIGUSR2;

sigset_t WatchedSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, kStopSignal);
  return set;
}

}  // namespace

SignalThread::SignalThread() {
  const sigset_t set = WatchedSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  // A log that nobody reads must not end the server.
  signal(SIGPIPE, SIG_IGN);
  thread_ = std::thread([this] { Run(); });
}

SignalThread::~SignalThread() {
  pthread_kill(thread_.native_handle(), kStopSignal);
  thread_.join();
}

void SignalThread::Run() {
  const sigset_t set = WatchedSignals();
  for (;;) {
    int signal_number = 0;
    if (sigwait(&set, &signal_number) != 0) continue;
    if (signal_number == kStopSignal) return;
    MutexLock lock(&mutex_);
    if (first_ != 0) _exit(1);
    first_ = signal_number;
    received_.NotifyAll();
  }
}

int SignalThread::WaitForFirst() {
  MutexLock lock(&mutex_);
  while (first_ == 0) received_.Wait(&mutex_);
  return first_;
}

}  // namespace pot
