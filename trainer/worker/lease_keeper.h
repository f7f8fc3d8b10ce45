// Holds a lease: heartbeats, directives and events, on a thread of its own, so
// that the network never stalls the training.
#ifndef POT_TRAINER_WORKER_LEASE_KEEPER_H_
#define POT_TRAINER_WORKER_LEASE_KEEPER_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <thread>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "pot/v1/worker.pb.h"
#include "trainer/worker/backoff.h"
#include "trainer/worker/worker_service.h"

namespace pot {

// What a job is to do next; the greater ones come first.
enum class JobCommand {
  kContinue,
  kStopEarly,  // evaluate, upload, Complete with `trained`
  kPause,      // snapshot, upload, Complete with `released`
  kCancel,     // Complete with `cancelled`
  kDrop,       // the lease is lost: nothing that is sent counts any more
  kNever,      // no job is told this
};

struct LeaseKeeperOptions {
  BackoffOptions backoff;
  // A worker that was asked to stop waits so long for a server that does not
  // answer.
  absl::Duration stop_patience = absl::Seconds(30);
  // Of progress events.
  absl::Duration progress_interval = absl::Seconds(1);
};

// Thread-safe. A server that does not answer loses nothing: the job goes on,
// events wait, and the lease counts as held until the server says otherwise, as
// every write carries its epoch.
class LeaseKeeper {
 public:
  // `service` outlives this.
  LeaseKeeper(WorkerService* service, const v1::Lease& lease,
              const LeaseKeeperOptions& options);
  // Events that were not sent are lost; see Flush().
  ~LeaseKeeper();
  LeaseKeeper(const LeaseKeeper&) = delete;
  LeaseKeeper& operator=(const LeaseKeeper&) = delete;

  const v1::LeaseKey& key() const { return key_; }

  JobCommand command() const;
  // The share of time to compute in, (0, 1].
  double duty_ratio() const;
  // As if the server had said PAUSE.
  void RequestStop();
  // What comes now ends the lease, so its loss is nothing to tell.
  void BeginComplete();

  // Returns early once command() is `until` or greater.
  void Sleep(absl::Duration duration, JobCommand until);

  // Calls until it succeeds, as long as its errors are of a kind that passes: a
  // connection that breaks, any number of times; a refusal for lack of room or
  // a wrong checksum, some times. CANCELLED once command() is `until` or
  // greater; ABORTED when the lease is lost; UNAVAILABLE when the worker shall
  // stop and its patience is over.
  absl::Status Retry(JobCommand until, absl::FunctionRef<absl::Status()> call);

  // For heartbeats, and an event when the last one is old enough.
  void ReportProgress(const v1::JobProgress& progress);
  void ReportEvaluation(const v1::CheckpointEvaluation& evaluation);
  // Evaluations that the server may lack still.
  v1::ReportEventsRequest UnsentEvaluations() const;
  // Also a line in this process's log.
  void Log(v1::LogSeverity severity, absl::string_view text);

  // Until all events, and the newest progress among them, are stored, or cannot
  // be.
  void Flush();

 private:
  using Clock = std::chrono::steady_clock;
  struct Event {
    v1::WorkerEvent event;
    Clock::time_point time;
  };

  void Run();
  // Both false when the server did not answer.
  bool Beat();
  bool SendEvents();
  void Enqueue(v1::WorkerEvent event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EnqueueProgress() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  JobCommand CommandLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool OutOfPatience() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Unanswered(const absl::Status& status);
  void Lose();
  bool IsLost();

  WorkerService* const service_;
  const LeaseKeeperOptions options_;
  const v1::LeaseKey key_;
  const uint64_t seed_;  // of waits
  const Clock::duration heartbeat_;
  const Clock::duration ttl_;

  mutable Mutex mutex_;
  CondVar changed_;
  v1::WorkerDirective directive_ ABSL_GUARDED_BY(mutex_) =
      v1::WORKER_DIRECTIVE_CONTINUE;
  double duty_ratio_ ABSL_GUARDED_BY(mutex_) = 1;
  bool lost_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool completing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool flush_ ABSL_GUARDED_BY(mutex_) = false;
  bool unanswered_ ABSL_GUARDED_BY(mutex_) = false;
  Clock::time_point last_answer_ ABSL_GUARDED_BY(mutex_);
  v1::JobProgress progress_ ABSL_GUARDED_BY(mutex_);
  bool progress_is_new_ ABSL_GUARDED_BY(mutex_) = false;
  Clock::time_point last_progress_ ABSL_GUARDED_BY(mutex_);
  int64_t last_sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<Event> events_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace pot

#endif  // POT_TRAINER_WORKER_LEASE_KEEPER_H_
