#include "client/interrupter.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include "absl/time/clock.h"
#include "client/exit_code.h"

namespace pot {

Interrupter::Interrupter() {
  if (pipe2(wake_, O_CLOEXEC | O_NONBLOCK) != 0) std::abort();
}

Interrupter::~Interrupter() {
  close(wake_[0]);
  close(wake_[1]);
}

void Interrupter::Interrupt() {
  MutexLock lock(&mutex_);
  interrupted_ = true;
  // Fails only when the pipe is full, and then it is readable already.
  const char byte = 0;
  [[maybe_unused]] const ssize_t written = write(wake_[1], &byte, 1);
  for (const auto& [id, cancel] : callbacks_) cancel();
}

void Interrupter::Reset() {
  MutexLock lock(&mutex_);
  interrupted_ = false;
  char bytes[64];
  while (read(wake_[0], bytes, sizeof(bytes)) > 0) {
  }
}

int Interrupter::AddCallback(std::function<void()> cancel) {
  MutexLock lock(&mutex_);
  if (interrupted_) cancel();
  callbacks_[next_id_] = std::move(cancel);
  return next_id_++;
}

void Interrupter::RemoveCallback(int id) {
  MutexLock lock(&mutex_);
  callbacks_.erase(id);
}

bool Interrupter::Sleep(absl::Duration duration) const {
  const absl::Time end = absl::Now() + duration;
  while (!interrupted_) {
    const absl::Duration left = end - absl::Now();
    if (left <= absl::ZeroDuration()) return true;
    pollfd ready = {wake_fd(), POLLIN, 0};
    poll(&ready, 1,
         static_cast<int>(std::min<int64_t>(
             absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))),
             INT_MAX)));
  }
  return false;
}

InterruptSignal::InterruptSignal(Interrupter* interrupter) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  thread_ = std::thread([this, interrupter, signals] {
    int signal = 0;
    while (sigwait(&signals, &signal) == 0 && !stopping_) {
      if (interrupter->interrupted()) _exit(kExitInterrupted);
      interrupter->Interrupt();
    }
  });
}

InterruptSignal::~InterruptSignal() {
  stopping_ = true;
  // To this thread alone: ends its sigwait().
  pthread_kill(thread_.native_handle(), SIGINT);
  thread_.join();
}

}  // namespace pot
