#include "server/rpc/stream_watch.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpc/grpc.h"
#include "server/serving/error_details.h"

namespace pot {

StreamWatch::StreamWatch(Direction direction, grpc::CallbackServerContext* rpc,
                         absl::Duration limit)
    : direction_(direction), rpc_(rpc), limit_(limit) {}

absl::Status StreamWatch::Error() const {
  const std::string limit = absl::FormatDuration(limit_);
  const bool writes = direction_ == Direction::kWrites;
  return WithDetails(absl::DeadlineExceededError(absl::StrCat(
                         "the client ", writes ? "took" : "sent",
                         " no message for longer than the limit of ", limit)),
                     {.reason = writes ? "WRITE_TIMEOUT" : "READ_TIMEOUT",
                      .metadata = {{"limit", limit}}});
}

void StreamWatch::Begin() {
  if (limit_ == absl::ZeroDuration()) return;
  MutexLock lock(&mutex_);
  begun_ = absl::Now();
  // One alarm serves many operations: it looks at the newest when it goes off.
  if (alarm_ == nullptr && !stopped_) SetAlarm(begun_ + limit_);
}

void StreamWatch::End() {
  if (limit_ == absl::ZeroDuration()) return;
  MutexLock lock(&mutex_);
  begun_ = absl::InfiniteFuture();
}

void StreamWatch::Stop() {
  std::unique_ptr<grpc::Alarm> alarm;
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    alarm = std::move(alarm_);
  }
  if (alarm != nullptr) alarm->Cancel();
}

absl::Status StreamWatch::status() const {
  MutexLock lock(&mutex_);
  return expired_ ? Error() : absl::OkStatus();
}

void StreamWatch::SetAlarm(absl::Time time) {
  alarm_ = std::make_unique<grpc::Alarm>();
  alarm_->Set(absl::ToChronoTime(time), [self = shared_from_this()](bool ok) {
    if (ok) self->OnAlarm();
  });
}

void StreamWatch::OnAlarm() {
  // gRPC's timers may fire a little early.
  constexpr absl::Duration kSlack = absl::Milliseconds(5);
  // Of this alarm, and destroyed without the lock.
  std::unique_ptr<grpc::Alarm> gone_off;
  grpc_call* call = nullptr;
  {
    MutexLock lock(&mutex_);
    gone_off = std::move(alarm_);
    if (stopped_ || begun_ == absl::InfiniteFuture()) return;
    if (absl::Now() + kSlack < begun_ + limit_) {
      SetAlarm(begun_ + limit_);
      return;
    }
    expired_ = true;
    // The call is not over before End(), which waits for the lock.
    call = rpc_->c_call();
    grpc_call_ref(call);
  }
  // The status goes past the messages that wait; TryCancel() would say no more
  // than CANCELLED.
  grpc_call_cancel_with_status(call, GRPC_STATUS_DEADLINE_EXCEEDED,
                               std::string(Error().message()).c_str(), nullptr);
  grpc_call_unref(call);
}

}  // namespace pot
