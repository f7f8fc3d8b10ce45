#include "server/rpc/lease_waiters.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "absl/time/clock.h"

namespace pot {
namespace {

// Between two rounds of tries: job events come in bursts.
constexpr auto kPause = std::chrono::milliseconds(20);
// Clients that are gone are noticed this often.
constexpr absl::Duration kLongestSleep = absl::Seconds(5);

}  // namespace

LeaseWaiters::LeaseWaiters() : thread_([this] { Run(); }) {}

LeaseWaiters::~LeaseWaiters() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
    wake_.NotifyAll();
  }
  thread_.join();
}

void LeaseWaiters::Add(std::string worker, absl::Time until, Attempt attempt) {
  MutexLock lock(&mutex_);
  added_.push_back({std::move(worker), until, std::move(attempt)});
  woken_ = true;
  wake_.NotifyAll();
}

void LeaseWaiters::Wake() {
  MutexLock lock(&mutex_);
  woken_ = true;
  wake_.NotifyAll();
}

void LeaseWaiters::TryAll(std::list<Waiter>* waiters) {
  for (auto waiter = waiters->begin(); waiter != waiters->end();) {
    Turn turn = Turn::kTry;
    if (waiter->replaced) {
      turn = Turn::kReplaced;
    } else if (absl::Now() >= waiter->until) {
      turn = Turn::kTimeUp;
    }
    waiter = waiter->attempt(turn) ? waiters->erase(waiter) : std::next(waiter);
  }
}

void LeaseWaiters::Run() {
  std::list<Waiter> waiters;
  while (true) {
    TryAll(&waiters);
    absl::Duration sleep = kLongestSleep;
    for (const Waiter& waiter : waiters) {
      sleep = std::min(sleep, waiter.until - absl::Now());
    }
    std::list<Waiter> added;
    {
      MutexLock lock(&mutex_);
      const auto until =
          std::chrono::steady_clock::now() +
          absl::ToChronoNanoseconds(std::max(sleep, absl::Milliseconds(1)));
      while (!woken_ && !stop_ && wake_.WaitUntil(&mutex_, until)) {
      }
      if (stop_) return;
      woken_ = false;
      added.swap(added_);
    }
    for (Waiter& one : added) {
      for (Waiter& other : waiters) {
        if (other.worker == one.worker) other.replaced = true;
      }
      waiters.push_back(std::move(one));
    }
    if (added.empty()) std::this_thread::sleep_for(kPause);
  }
}

}  // namespace pot
