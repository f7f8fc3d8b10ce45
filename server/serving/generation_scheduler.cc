#include "server/serving/generation_scheduler.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"
#include "server/serving/error_details.h"
#include "server/serving/round_plan.h"
#include "server/serving/scheduled_generation.h"
#include "server/serving/scheduled_score.h"
#include "server/serving/scheduled_task.h"
#include "server/serving/step_runner.h"
#include "server/serving/task_checks.h"

namespace pot {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;
using Tasks = std::vector<std::unique_ptr<ScheduledTask>>;

absl::Status Exhausted(const std::string& reason, absl::string_view message,
                       int64_t limit, int64_t value,
                       std::optional<absl::Duration> retry_after) {
  return WithDetails(
      absl::ResourceExhaustedError(absl::StrCat(
          message, "; the limit is ", limit, ", the value would be ", value)),
      {.reason = reason,
       .metadata = {{"limit", absl::StrCat(limit)},
                    {"value", absl::StrCat(value)}},
       .retry_after = retry_after});
}

// When the steady clock will have advanced by deadline - now.
SteadyTime SteadyDeadline(absl::Time deadline, absl::Time now) {
  constexpr absl::Duration kLongest = absl::Hours(24 * 365);
  const absl::Duration left =
      std::clamp(deadline - now, absl::ZeroDuration(), kLongest);
  return std::chrono::steady_clock::now() +
         std::chrono::ceil<std::chrono::steady_clock::duration>(
             absl::ToChronoNanoseconds(left));
}

bool IsPast(SteadyTime deadline) {
  return std::chrono::steady_clock::now() >= deadline;
}

}  // namespace

class GenerationScheduler::Impl {
 public:
  Impl(InferenceEngine* engine, SchedulerOptions options)
      : engine_(engine), options_(std::move(options)) {}
  ~Impl();

  const SchedulerOptions& options() const { return options_; }
  void Start();
  absl::Status Submit(std::unique_ptr<ScheduledTask> task);
  void Wake();
  bool RunRound();
  void BeginDrain();
  bool FinishDrain(absl::Time deadline);
  SchedulerStats stats() const;

 private:
  void ThreadMain();
  absl::Status CheckFits(const ScheduledTask& task) const;
  absl::Status DrainingError() const;
  absl::Status AdmissionError(const absl::Status& status) const;
  // True when all tasks are gone, false at `deadline`.
  bool WaitUntilEmpty(SteadyTime deadline);

  // The following run on the thread that runs rounds, without the lock.

  // Ends tasks that were cancelled or expired, or all when the drain is over.
  bool EndDeadTasks();
  bool AdmitWaiting();
  void RunSteps(RoundPlan* plan, bool* worked);
  // Destroys running tasks that have ended, publishes the statistics.
  void Reap();
  // Takes waiting tasks out: all, or those that are not alive at `now`.
  Tasks TakeWaiting(bool all, absl::Time now);
  void EndAll(const absl::Status& status);
  int64_t RunningSequences() const;
  absl::Time NearestDeadline() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Destroys tasks that have ended and counts them as gone.
  void Destroy(Tasks tasks);

  InferenceEngine* const engine_;
  const SchedulerOptions options_;

  mutable Mutex mutex_;
  CondVar wake_;   // woken_ or stop_ became true
  CondVar empty_;  // unfinished_ became 0
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool drain_over_ ABSL_GUARDED_BY(mutex_) = false;
  // Front first. Only the thread that runs rounds takes tasks out.
  std::deque<std::unique_ptr<ScheduledTask>> waiting_ ABSL_GUARDED_BY(mutex_);
  int64_t waiting_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t unfinished_ ABSL_GUARDED_BY(mutex_) = 0;  // accepted, not destroyed
  int64_t running_sequences_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t parked_sequences_ ABSL_GUARDED_BY(mutex_) = 0;

  // Of the thread that runs rounds; in the order of admission.
  Tasks running_;
  int64_t parked_in_round_ = 0;
  std::thread thread_;
};

GenerationScheduler::Impl::~Impl() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
    wake_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
  EndAll(absl::CancelledError("the scheduler was stopped"));
  Reap();
}

void GenerationScheduler::Impl::Start() {
  {
    MutexLock lock(&mutex_);
    if (started_) return;
    started_ = true;
  }
  thread_ = std::thread([this] { ThreadMain(); });
}

void GenerationScheduler::Impl::ThreadMain() {
  for (;;) {
    {
      MutexLock lock(&mutex_);
      if (stop_) return;
      woken_ = false;
    }
    if (RunRound()) continue;
    MutexLock lock(&mutex_);
    const absl::Time deadline = NearestDeadline();
    if (deadline == absl::InfiniteFuture()) {
      while (!woken_ && !stop_) wake_.Wait(&mutex_);
    } else {
      const SteadyTime until = SteadyDeadline(deadline, options_.now());
      while (!woken_ && !stop_ && wake_.WaitUntil(&mutex_, until)) {
      }
    }
  }
}

absl::Status GenerationScheduler::Impl::DrainingError() const {
  return WithDetails(
      absl::UnavailableError("the server is draining and takes no new calls"),
      {.reason = "DRAINING", .retry_after = options_.retry_after});
}

absl::Status GenerationScheduler::Impl::CheckFits(
    const ScheduledTask& task) const {
  if (task.live_sequences() > options_.max_running_sequences) {
    return WithDetails(
        absl::InvalidArgumentError(
            absl::StrCat("the call generates ", task.live_sequences(),
                         " sequences; the server runs at most ",
                         options_.max_running_sequences, " at the same time")),
        {.reason = "INVALID_FIELD",
         .metadata = {{"limit", absl::StrCat(options_.max_running_sequences)},
                      {"value", absl::StrCat(task.live_sequences())}},
         .field = "sampling.best_of"});
  }
  const int64_t capacity = engine_->kv_budget()->capacity_bytes();
  if (task.kv_bytes() > capacity) {
    return Exhausted("KV_MEMORY",
                     "the call needs more bytes of KV memory than there are",
                     capacity, task.kv_bytes(), std::nullopt);
  }
  if (task.queued_tokens() > options_.max_waiting_tokens) {
    return Exhausted("QUEUED_TOKENS", "the call has more tokens than may wait",
                     options_.max_waiting_tokens, task.queued_tokens(),
                     std::nullopt);
  }
  return absl::OkStatus();
}

absl::Status GenerationScheduler::Impl::Submit(
    std::unique_ptr<ScheduledTask> task) {
  POT_RETURN_IF_ERROR(CheckFits(*task));
  const int64_t tokens = task->queued_tokens();
  MutexLock lock(&mutex_);
  if (draining_ || stop_) return DrainingError();
  const int64_t tasks = static_cast<int64_t>(waiting_.size()) + 1;
  if (tasks > options_.max_waiting_tasks) {
    return Exhausted("QUEUE_FULL", "too many calls are waiting",
                     options_.max_waiting_tasks, tasks, options_.retry_after);
  }
  if (waiting_tokens_ + tokens > options_.max_waiting_tokens) {
    return Exhausted("QUEUED_TOKENS",
                     "the calls that are waiting have too many tokens",
                     options_.max_waiting_tokens, waiting_tokens_ + tokens,
                     options_.retry_after);
  }
  waiting_.push_back(std::move(task));
  waiting_tokens_ += tokens;
  ++unfinished_;
  woken_ = true;
  wake_.NotifyAll();
  return absl::OkStatus();
}

void GenerationScheduler::Impl::Wake() {
  MutexLock lock(&mutex_);
  woken_ = true;
  wake_.NotifyAll();
}

bool GenerationScheduler::Impl::RunRound() {
  bool worked = EndDeadTasks();
  worked |= AdmitWaiting();

  RoundPlan plan(options_.prefill_chunk_tokens, options_.max_logit_bytes);
  parked_in_round_ = 0;
  for (const auto& task : running_) {
    if (task->ReadyForMore()) {
      task->Plan(&plan);
    } else {
      parked_in_round_ += task->live_sequences();
    }
  }
  RunSteps(&plan, &worked);
  Reap();
  return worked;
}

void GenerationScheduler::Impl::RunSteps(RoundPlan* plan, bool* worked) {
  for (const RoundPlan::ModelStep& step : plan->steps()) {
    if (step.items.empty()) continue;
    const absl::Time start = options_.now();
    StepReport report;
    report.model = &step.model->identity;
    for (const RoundPlan::Item& item : step.items) {
      if (item.decode) {
        ++report.decode_sequences;
      } else {
        report.chunk_tokens += static_cast<int64_t>(item.span.tokens.size());
      }
    }
    *worked = true;
    if (!RunModelStep(engine_, step, options_.now)) continue;
    report.duration = options_.now() - start;
    if (options_.on_step) options_.on_step(report);
  }
}

bool GenerationScheduler::Impl::EndDeadTasks() {
  const absl::Time now = options_.now();
  bool over;
  {
    MutexLock lock(&mutex_);
    over = drain_over_;
  }
  bool ended = false;
  for (const auto& task : running_) {
    const absl::Status status = over ? DrainingError() : task->CheckAlive(now);
    if (status.ok()) continue;
    task->End(status, now);
    ended = true;
  }
  Tasks dead = TakeWaiting(over, now);
  for (const auto& task : dead) {
    // A cancellation is never taken back, nor is time.
    task->End(over ? DrainingError() : task->CheckAlive(now), now);
    ended = true;
  }
  Destroy(std::move(dead));
  if (ended) Reap();
  return ended;
}

Tasks GenerationScheduler::Impl::TakeWaiting(bool all, absl::Time now) {
  Tasks taken;
  MutexLock lock(&mutex_);
  std::deque<std::unique_ptr<ScheduledTask>> rest;
  for (auto& task : waiting_) {
    if (all || !task->CheckAlive(now).ok()) {
      waiting_tokens_ -= task->queued_tokens();
      taken.push_back(std::move(task));
    } else {
      rest.push_back(std::move(task));
    }
  }
  waiting_.swap(rest);
  return taken;
}

absl::Status GenerationScheduler::Impl::AdmissionError(
    const absl::Status& status) const {
  if (!absl::IsResourceExhausted(status)) {
    return WithDetails(absl::InternalError(status.message()),
                       {.reason = "INTERNAL"});
  }
  return WithDetails(
      status, {.reason = "KV_MEMORY", .retry_after = options_.retry_after});
}

bool GenerationScheduler::Impl::AdmitWaiting() {
  bool worked = false;
  for (;;) {
    ScheduledTask* head = nullptr;
    {
      MutexLock lock(&mutex_);
      if (waiting_.empty()) return worked;
      head = waiting_.front().get();
    }
    if (RunningSequences() + head->live_sequences() >
        options_.max_running_sequences) {
      return worked;
    }
    absl::Status status = head->Admit(engine_);
    // What runs will give its memory back. When nothing runs, somebody else
    // holds it.
    if (absl::IsResourceExhausted(status) && !running_.empty()) return worked;
    std::unique_ptr<ScheduledTask> task;
    {
      MutexLock lock(&mutex_);
      task = std::move(waiting_.front());
      waiting_.pop_front();
      waiting_tokens_ -= task->queued_tokens();
    }
    worked = true;
    if (status.ok()) {
      running_.push_back(std::move(task));
      continue;
    }
    task->End(AdmissionError(status), options_.now());
    Tasks failed;
    failed.push_back(std::move(task));
    Destroy(std::move(failed));
  }
}

int64_t GenerationScheduler::Impl::RunningSequences() const {
  int64_t sequences = 0;
  for (const auto& task : running_) {
    if (!task->ended()) sequences += task->live_sequences();
  }
  return sequences;
}

void GenerationScheduler::Impl::Reap() {
  const auto first_ended =
      std::stable_partition(running_.begin(), running_.end(),
                            [](const auto& task) { return !task->ended(); });
  Tasks ended(std::make_move_iterator(first_ended),
              std::make_move_iterator(running_.end()));
  running_.erase(first_ended, running_.end());
  {
    MutexLock lock(&mutex_);
    running_sequences_ = RunningSequences();
    parked_sequences_ = std::min(parked_in_round_, running_sequences_);
  }
  Destroy(std::move(ended));
}

void GenerationScheduler::Impl::Destroy(Tasks tasks) {
  if (tasks.empty()) return;
  const int64_t count = static_cast<int64_t>(tasks.size());
  tasks.clear();
  MutexLock lock(&mutex_);
  unfinished_ -= count;
  if (unfinished_ == 0) empty_.NotifyAll();
}

void GenerationScheduler::Impl::EndAll(const absl::Status& status) {
  const absl::Time now = options_.now();
  Tasks waiting = TakeWaiting(/*all=*/true, now);
  for (const auto& task : running_) task->End(status, now);
  for (const auto& task : waiting) task->End(status, now);
  Destroy(std::move(waiting));
}

absl::Time GenerationScheduler::Impl::NearestDeadline() {
  absl::Time nearest = absl::InfiniteFuture();
  for (const auto& task : running_) {
    nearest = std::min(nearest, task->deadline());
  }
  for (const auto& task : waiting_) {
    nearest = std::min(nearest, task->deadline());
  }
  return nearest;
}

void GenerationScheduler::Impl::BeginDrain() {
  MutexLock lock(&mutex_);
  draining_ = true;
}

bool GenerationScheduler::Impl::FinishDrain(absl::Time deadline) {
  BeginDrain();
  if (WaitUntilEmpty(SteadyDeadline(deadline, options_.now()))) return true;
  bool started;
  {
    MutexLock lock(&mutex_);
    drain_over_ = true;
    woken_ = true;
    wake_.NotifyAll();
    started = started_;
  }
  if (!started) RunRound();
  MutexLock lock(&mutex_);
  while (unfinished_ > 0) empty_.Wait(&mutex_);
  return false;
}

bool GenerationScheduler::Impl::WaitUntilEmpty(SteadyTime deadline) {
  for (;;) {
    bool started;
    {
      MutexLock lock(&mutex_);
      started = started_;
      if (!started) woken_ = false;
    }
    while (!started && !IsPast(deadline) && RunRound()) {
    }
    MutexLock lock(&mutex_);
    if (started) {
      while (unfinished_ > 0 && empty_.WaitUntil(&mutex_, deadline)) {
      }
      return unfinished_ == 0;
    }
    while (unfinished_ > 0 && !woken_ && wake_.WaitUntil(&mutex_, deadline)) {
    }
    if (unfinished_ == 0) return true;
    if (IsPast(deadline)) return false;
  }
}

SchedulerStats GenerationScheduler::Impl::stats() const {
  MutexLock lock(&mutex_);
  SchedulerStats stats;
  stats.waiting_tasks = static_cast<int64_t>(waiting_.size());
  stats.waiting_tokens = waiting_tokens_;
  stats.running_sequences = running_sequences_;
  stats.parked_sequences = parked_sequences_;
  return stats;
}

GenerationScheduler::GenerationScheduler(InferenceEngine* engine,
                                         SchedulerOptions options)
    : impl_(std::make_unique<Impl>(engine, std::move(options))) {}

GenerationScheduler::~GenerationScheduler() = default;

void GenerationScheduler::Start() { impl_->Start(); }

absl::Status GenerationScheduler::Submit(std::unique_ptr<GenerateTask> task) {
  POT_RETURN_IF_ERROR(ValidateTask(*task));
  return impl_->Submit(std::make_unique<ScheduledGeneration>(
      std::move(task), impl_->options().now()));
}

absl::Status GenerationScheduler::Submit(std::unique_ptr<ScoreTask> task) {
  POT_RETURN_IF_ERROR(ValidateTask(*task));
  return impl_->Submit(std::make_unique<ScheduledScore>(
      std::move(task), impl_->options().now()));
}

void GenerationScheduler::Wake() { impl_->Wake(); }

bool GenerationScheduler::RunOnce() { return impl_->RunRound(); }

void GenerationScheduler::BeginDrain() { impl_->BeginDrain(); }

bool GenerationScheduler::FinishDrain(absl::Time deadline) {
  return impl_->FinishDrain(deadline);
}

SchedulerStats GenerationScheduler::stats() const { return impl_->stats(); }

}  // namespace pot
