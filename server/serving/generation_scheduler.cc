#include "server/serving/generation_scheduler.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"
#include "server/serving/running_tasks.h"
#include "server/serving/scheduled_generation.h"
#include "server/serving/scheduled_score.h"
#include "server/serving/scheduled_task.h"
#include "server/serving/scheduler_errors.h"
#include "server/serving/task_checks.h"
#include "server/serving/task_queue.h"

namespace pot {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;
using Tasks = std::vector<std::unique_ptr<ScheduledTask>>;

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
      : engine_(engine),
        options_(std::move(options)),
        waiting_(options_.max_waiting_tasks, options_.max_waiting_tokens,
                 options_.retry_after, options_.max_queue_time),
        running_(engine, &options_) {}
  ~Impl();

  const SchedulerOptions& options() const { return options_; }
  std::shared_ptr<ModelMetrics> MetricsOf(const LoadedModel& model) const;
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
  // True when all tasks are gone, false at `deadline`.
  bool WaitUntilEmpty(SteadyTime deadline);

  // The following run on the thread that runs rounds, without the lock.

  // Ends tasks that were cancelled or expired, or all when the drain is over.
  bool EndDeadTasks();
  bool EndInfeasibleTasks();
  bool AdmitWaiting();
  // Destroys running tasks that have ended, publishes the statistics.
  void Reap();
  void EndAll(const absl::Status& status);
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
  // Only the thread that runs rounds takes tasks out.
  TaskQueue waiting_ ABSL_GUARDED_BY(mutex_);
  int64_t unfinished_ ABSL_GUARDED_BY(mutex_) = 0;  // accepted, not destroyed
  int64_t running_tasks_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t running_sequences_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t parked_sequences_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t prefix_cache_bytes_ ABSL_GUARDED_BY(mutex_) = 0;

  RunningTasks running_;
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

std::shared_ptr<ModelMetrics> GenerationScheduler::Impl::MetricsOf(
    const LoadedModel& model) const {
  return options_.metrics == nullptr
             ? std::make_shared<ModelMetrics>()
             : options_.metrics->Of(model.identity.name,
                                    model.identity.version);
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

absl::Status GenerationScheduler::Impl::CheckFits(
    const ScheduledTask& task) const {
  if (task.live_sequences() > options_.max_running_sequences) {
    return TooManySequencesError(options_.max_running_sequences,
                                 task.live_sequences());
  }
  const int64_t capacity = engine_->kv_budget()->capacity_bytes();
  if (task.kv_bytes() > capacity) {
    return ExhaustedError("KV_MEMORY",
                          "the call needs more bytes of KV memory than there "
                          "are",
                          capacity, task.kv_bytes(), std::nullopt);
  }
  return absl::OkStatus();
}

absl::Status GenerationScheduler::Impl::Submit(
    std::unique_ptr<ScheduledTask> task) {
  POT_RETURN_IF_ERROR(CheckFits(*task));
  MutexLock lock(&mutex_);
  if (draining_ || stop_) return DrainingError(options_.retry_after);
  POT_RETURN_IF_ERROR(waiting_.Push(&task));
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
  running_.DropUnloadedModels();
  worked |= EndInfeasibleTasks();
  worked |= AdmitWaiting();
  worked |= running_.RunSteps();
  Reap();
  return worked;
}

bool GenerationScheduler::Impl::EndDeadTasks() {
  const absl::Time now = options_.now();
  bool over;
  Tasks dead;
  {
    MutexLock lock(&mutex_);
    over = drain_over_;
    dead = over ? waiting_.TakeAll() : waiting_.TakeDead(now);
  }
  bool ended = !dead.empty();
  if (over) {
    ended |= !running_.empty();
    running_.EndAll(DrainingError(options_.retry_after), now);
  } else {
    ended |= running_.EndDead(now);
  }
  for (const auto& task : dead) {
    // Still so: a cancellation is never taken back.
    task->End(
        over ? DrainingError(options_.retry_after) : task->CheckAlive(now),
        now);
  }
  Destroy(std::move(dead));
  if (ended) Reap();
  return ended;
}

bool GenerationScheduler::Impl::EndInfeasibleTasks() {
  std::vector<std::pair<ScheduledTask*, int64_t>> unjudged;
  absl::Duration time_per_task;
  {
    MutexLock lock(&mutex_);
    unjudged = waiting_.Unjudged();
    // A half, as whoever is refused could perhaps have been served.
    time_per_task = waiting_.TimeFor(1) / 2;
  }
  Tasks infeasible;
  const absl::Time now = options_.now();
  for (const auto& [task, tasks_before] : unjudged) {
    task->set_judged();
    // Those before it that were taken out have left.
    const int64_t before =
        tasks_before - static_cast<int64_t>(infeasible.size());
    const absl::Status status =
        running_.CheckFeasible(*task, before, before * time_per_task, now);
    if (status.ok()) continue;
    {
      MutexLock lock(&mutex_);
      infeasible.push_back(waiting_.Take(task));
    }
    task->End(status, now);
  }
  const bool worked = !infeasible.empty();
  Destroy(std::move(infeasible));
  return worked;
}

bool GenerationScheduler::Impl::AdmitWaiting() {
  bool worked = false;
  for (;;) {
    ScheduledTask* head = nullptr;
    {
      MutexLock lock(&mutex_);
      if (waiting_.empty()) return worked;
      head = waiting_.front();
    }
    if (!running_.HasSlotsFor(*head)) return worked;
    const absl::Time now = options_.now();
    const absl::Status feasible =
        running_.CheckFeasible(*head, 0, absl::ZeroDuration(), now);
    absl::Status status = feasible.ok() ? running_.Admit(head) : feasible;
    // What runs will give its memory back. When nothing runs, somebody else
    // holds it.
    if (absl::IsResourceExhausted(status) && !running_.empty()) return worked;
    std::unique_ptr<ScheduledTask> task;
    {
      MutexLock lock(&mutex_);
      task = waiting_.PopFront();
      waiting_.RecordDeparture(now);
    }
    worked = true;
    if (status.ok()) {
      running_.Add(std::move(task));
      continue;
    }
    task->End(
        feasible.ok() ? AdmissionError(status, options_.retry_after) : feasible,
        now);
    Tasks failed;
    failed.push_back(std::move(task));
    Destroy(std::move(failed));
  }
}

void GenerationScheduler::Impl::Reap() {
  Tasks ended = running_.TakeEnded();
  {
    MutexLock lock(&mutex_);
    running_tasks_ = running_.size();
    running_sequences_ = running_.sequences();
    parked_sequences_ =
        std::min(running_.parked_sequences(), running_sequences_);
    prefix_cache_bytes_ = running_.prefix_cache_bytes();
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
  Tasks waiting;
  {
    MutexLock lock(&mutex_);
    waiting = waiting_.TakeAll();
  }
  running_.EndAll(status, now);
  for (const auto& task : waiting) task->End(status, now);
  Destroy(std::move(waiting));
}

absl::Time GenerationScheduler::Impl::NearestDeadline() {
  return std::min(waiting_.NearestDeadline(), running_.NearestDeadline());
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
  stats.waiting_tasks = waiting_.size();
  stats.waiting_tokens = waiting_.tokens();
  stats.running_tasks = running_tasks_;
  stats.running_sequences = running_sequences_;
  stats.parked_sequences = parked_sequences_;
  stats.prefix_cache_bytes = prefix_cache_bytes_;
  return stats;
}

GenerationScheduler::GenerationScheduler(InferenceEngine* engine,
                                         SchedulerOptions options)
    : impl_(std::make_unique<Impl>(engine, std::move(options))) {}

GenerationScheduler::~GenerationScheduler() = default;

void GenerationScheduler::Start() { impl_->Start(); }

absl::Status GenerationScheduler::Submit(std::unique_ptr<GenerateTask> task) {
  POT_RETURN_IF_ERROR(ValidateTask(*task));
  std::shared_ptr<ModelMetrics> metrics = impl_->MetricsOf(*task->model);
  return impl_->Submit(std::make_unique<ScheduledGeneration>(
      std::move(task), impl_->options().now(), std::move(metrics),
      impl_->options().inter_token_latencies));
}

absl::Status GenerationScheduler::Submit(std::unique_ptr<ScoreTask> task) {
  POT_RETURN_IF_ERROR(ValidateTask(*task));
  std::shared_ptr<ModelMetrics> metrics = impl_->MetricsOf(*task->model);
  return impl_->Submit(std::make_unique<ScheduledScore>(
      std::move(task), impl_->options().now(), std::move(metrics)));
}

void GenerationScheduler::Wake() { impl_->Wake(); }

bool GenerationScheduler::RunOnce() { return impl_->RunRound(); }

void GenerationScheduler::BeginDrain() { impl_->BeginDrain(); }

bool GenerationScheduler::FinishDrain(absl::Time deadline) {
  return impl_->FinishDrain(deadline);
}

SchedulerStats GenerationScheduler::stats() const { return impl_->stats(); }

}  // namespace pot
