#include "server/rpc/watch_job.h"

#include <deque>
#include <utility>

#include "pot/v1/training.pb.h"
#include "server/rpc/wire.h"
#include "server/serving/error_details.h"
#include "server/training/qat_job_state.h"

namespace pot {
namespace {

constexpr int kPageEvents = 64;

// Does one thing at a time: reads a page, writes a message, or waits for a
// change. Deletes itself when gRPC is done with it, which is not before it
// finished, which is not while it reads or writes.
class WatchReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  WatchReactor(std::unique_ptr<Call> call, QatJobStore* jobs, WorkerPool* pool,
               const std::string& job_id, int64_t after_sequence)
      : call_(std::move(call)),
        jobs_(jobs),
        pool_(pool),
        job_id_(job_id),
        after_sequence_(after_sequence) {}

  void Start(const absl::Status& begun) {
    if (begun.ok()) {
      subscription_ =
          jobs_->Watch(job_id_, [this](const std::string&) { OnChange(); });
    }
    {
      MutexLock lock(&mutex_);
      status_ = begun;
      changed_ = true;
    }
    Advance();
  }

  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(&mutex_);
      busy_ = false;
      if (!ok) gone_ = true;
    }
    Advance();
  }

  void OnCancel() override {
    {
      MutexLock lock(&mutex_);
      gone_ = true;
    }
    Advance();
  }

  // Ends the subscription, after which OnChange() is not called any more.
  void OnDone() override { delete this; }

 private:
  enum class Action { kNothing, kRead, kWrite, kFinish };

  void OnChange() {
    {
      MutexLock lock(&mutex_);
      changed_ = true;
    }
    Advance();
  }

  // Without the lock where it acts, as this may be deleted as soon as Finish()
  // is called.
  void Advance() {
    absl::Status status;
    Action action = Action::kNothing;
    {
      MutexLock lock(&mutex_);
      action = NextAction();
      status = status_;
      if (gone_) {
        status = WithDetails(absl::CancelledError("the client is gone"),
                             {.reason = "CLIENT_CANCELLED"});
      }
    }
    switch (action) {
      case Action::kNothing:
        return;
      case Action::kRead:
        status = pool_->Submit([this] { ReadPage(); });
        if (!status.ok()) TakePage(status);
        return;
      case Action::kWrite:
        StartWrite(&in_flight_);
        return;
      case Action::kFinish:
        Finish(call_->End(status));
        return;
    }
  }

  Action NextAction() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (busy_ || finished_) return Action::kNothing;
    if (!gone_ && status_.ok()) {
      if (!events_.empty()) {
        status_ = SerializeNext();
        if (status_.ok()) {
          busy_ = true;
          return Action::kWrite;
        }
      } else if (changed_) {
        changed_ = false;
        busy_ = true;
        return Action::kRead;
      } else if (!IsFinalState(job_.state())) {
        return Action::kNothing;
      }
    }
    finished_ = true;
    return Action::kFinish;
  }

  absl::Status SerializeNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    v1::WatchJobResponse message;
    *message.mutable_event() = std::move(events_.front());
    events_.pop_front();
    const v1::JobEvent& event = message.event();
    const bool last =
        IsFinalState(job_.state()) && event.sequence() == job_.last_sequence();
    if (std::exchange(first_, false) || event.has_state_change() || last) {
      *message.mutable_job() = job_;
    }
    in_flight_.Clear();
    return SerializeMessage(message, &in_flight_);
  }

  // On the pool.
  void ReadPage() {
    TakePage(jobs_->EventsAfter(job_id_, after_sequence_, kPageEvents));
  }

  void TakePage(absl::StatusOr<QatJobEvents> page) {
    {
      MutexLock lock(&mutex_);
      busy_ = false;
      status_ = page.status();
      if (page.ok()) {
        job_ = std::move(page->job);
        events_.assign(std::make_move_iterator(page->events.begin()),
                       std::make_move_iterator(page->events.end()));
        if (!events_.empty()) {
          after_sequence_ = events_.back().sequence();
          // Look again: there may be another page.
          changed_ = true;
        }
      }
    }
    Advance();
  }

  const std::unique_ptr<Call> call_;
  QatJobStore* const jobs_;
  WorkerPool* const pool_;
  const std::string job_id_;
  int64_t after_sequence_;  // of the one who reads
  Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::JobEvent> events_ ABSL_GUARDED_BY(mutex_);  // to be written
  v1::QatJob job_ ABSL_GUARDED_BY(mutex_);  // as of the last page
  bool first_ ABSL_GUARDED_BY(mutex_) = true;
  bool changed_ ABSL_GUARDED_BY(mutex_) = false;  // since the last page
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;     // reading or writing
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;     // the client
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::ByteBuffer in_flight_;  // of the one who set busy_
  // Last, so that it goes first.
  std::shared_ptr<QatJobStore::Subscription> subscription_;
};

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartWatchJob(
    std::unique_ptr<Call> call, const absl::Status& begun, QatJobStore* jobs,
    WorkerPool* pool, const std::string& job_id, int64_t after_sequence) {
  auto* const reactor =
      new WatchReactor(std::move(call), jobs, pool, job_id, after_sequence);
  reactor->Start(begun);
  return reactor;
}

}  // namespace pot
