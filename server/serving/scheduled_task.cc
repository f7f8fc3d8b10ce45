#include "server/serving/scheduled_task.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

// The clock may have been set back.
absl::Duration Between(absl::Time from, absl::Time to) {
  return std::max(to - from, absl::ZeroDuration());
}

}  // namespace

ScheduledTask::ScheduledTask(absl::Time submitted, absl::Time deadline,
                             std::shared_ptr<std::atomic<bool>> cancelled,
                             std::shared_ptr<ModelMetrics> metrics)
    : submitted_(submitted),
      deadline_(deadline),
      cancelled_(std::move(cancelled)),
      metrics_(std::move(metrics)) {}

absl::Status ScheduledTask::CheckAlive(absl::Time now) const {
  if (cancelled_ != nullptr && cancelled_->load(std::memory_order_acquire)) {
    return WithDetails(absl::CancelledError("the client cancelled the call"),
                       {.reason = "CLIENT_CANCELLED"});
  }
  if (now >= deadline_) {
    return WithDetails(
        absl::DeadlineExceededError(
            absl::StrCat("the deadline passed ",
                         absl::FormatDuration(Between(submitted_, now)),
                         " after the call was queued; it allowed ",
                         absl::FormatDuration(Between(submitted_, deadline_)))),
        {.reason = "DEADLINE_PASSED"});
  }
  return absl::OkStatus();
}

void ScheduledTask::MarkStarted(absl::Time now) {
  if (started_ != absl::InfinitePast()) return;
  started_ = now;
  metrics_->queue_time.Observe(Between(submitted_, now));
  metrics_->prompt_tokens.fetch_add(static_cast<uint64_t>(queued_tokens()),
                                    std::memory_order_relaxed);
}

void ScheduledTask::MarkPrefilled(absl::Time now) {
  prefilled_ = now;
  metrics_->prefill_time.Observe(Between(started_, now));
}

void ScheduledTask::MarkToken(absl::Time now) {
  if (first_token_ == absl::InfinitePast()) {
    first_token_ = now;
    metrics_->time_to_first_token.Observe(Between(submitted_, now));
  }
  last_token_ = now;
}

void ScheduledTask::End(const absl::Status& status, absl::Time now) {
  if (ended_) return;
  ended_ = true;
  const TaskTimings timings = Timings(now);
  if (started_ == absl::InfinitePast()) {
    metrics_->queue_time.Observe(timings.queue);
  } else if (first_token_ != absl::InfinitePast()) {
    metrics_->decode_time.Observe(timings.decode);
  }
  OnEnd(status, timings);
}

TaskTimings ScheduledTask::Timings(absl::Time now) const {
  TaskTimings timings;
  if (started_ == absl::InfinitePast()) {
    timings.queue = Between(submitted_, now);
    return timings;
  }
  timings.queue = Between(submitted_, started_);
  if (prefilled_ == absl::InfinitePast()) {
    timings.prefill = Between(started_, now);
    return timings;
  }
  timings.prefill = Between(started_, prefilled_);
  if (first_token_ == absl::InfinitePast()) return timings;
  timings.decode = Between(prefilled_, last_token_);
  timings.first_token = Between(submitted_, first_token_);
  return timings;
}

}  // namespace pot
