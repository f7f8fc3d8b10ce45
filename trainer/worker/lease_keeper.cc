#include "trainer/worker/lease_keeper.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/utf8.h"
#include "engine/base/xxh64.h"
#include "trainer/worker/worker_log.h"

namespace pot {
namespace {

constexpr int kMaxEventsPerCall = 256;
constexpr size_t kMaxLogBytes = 4096;
constexpr double kDefaultHeartbeatSeconds = 2;
constexpr double kDefaultTtlSeconds = 30;
// In a row, of one call.
constexpr int kMaxRefusals = 6;

std::chrono::steady_clock::duration Seconds(double given, double otherwise) {
  const double seconds =
      given > 0 ? std::clamp(given, 0.01, 3600.0) : otherwise;
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(
      std::chrono::duration<double>(seconds));
}

uint64_t SeedOf(const v1::LeaseKey& key) {
  const std::string text = absl::StrCat(key.job_id(), " ", key.epoch());
  return Xxh64(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

bool IsBrokenConnection(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsCancelled(status);
}

bool MayPass(const absl::Status& status) {
  return absl::IsResourceExhausted(status) || absl::IsDataLoss(status) ||
         absl::IsInternal(status) || absl::IsUnknown(status);
}

}  // namespace

LeaseKeeper::LeaseKeeper(WorkerService* service, const v1::Lease& lease,
                         const LeaseKeeperOptions& options)
    : service_(service),
      options_(options),
      key_(lease.key()),
      seed_(SeedOf(lease.key())),
      heartbeat_(Seconds(lease.heartbeat_seconds(), kDefaultHeartbeatSeconds)),
      ttl_(Seconds(lease.ttl_seconds(), kDefaultTtlSeconds)),
      last_answer_(Clock::now()) {
  thread_ = std::thread([this] { Run(); });
}

LeaseKeeper::~LeaseKeeper() {
  {
    MutexLock lock(&mutex_);
    ended_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

JobCommand LeaseKeeper::CommandLocked() const {
  if (lost_) return JobCommand::kDrop;
  if (directive_ == v1::WORKER_DIRECTIVE_CANCEL) return JobCommand::kCancel;
  if (stop_ || directive_ == v1::WORKER_DIRECTIVE_PAUSE) {
    return JobCommand::kPause;
  }
  if (directive_ == v1::WORKER_DIRECTIVE_STOP_EARLY) {
    return JobCommand::kStopEarly;
  }
  return JobCommand::kContinue;
}

JobCommand LeaseKeeper::command() const {
  MutexLock lock(&mutex_);
  return CommandLocked();
}

double LeaseKeeper::duty_ratio() const {
  MutexLock lock(&mutex_);
  return duty_ratio_;
}

void LeaseKeeper::RequestStop() {
  MutexLock lock(&mutex_);
  stop_ = true;
  changed_.NotifyAll();
}

void LeaseKeeper::BeginComplete() {
  MutexLock lock(&mutex_);
  completing_ = true;
}

bool LeaseKeeper::OutOfPatience() const {
  return stop_ && Clock::now() - last_answer_ >
                      absl::ToChronoNanoseconds(options_.stop_patience);
}

void LeaseKeeper::Sleep(absl::Duration duration, JobCommand until) {
  const Clock::time_point end =
      Clock::now() + absl::ToChronoNanoseconds(duration);
  MutexLock lock(&mutex_);
  while (CommandLocked() < until && changed_.WaitUntil(&mutex_, end)) {
  }
}

absl::Status LeaseKeeper::Retry(JobCommand until,
                                absl::FunctionRef<absl::Status()> call) {
  Backoff backoff(options_.backoff, seed_);
  int refusals = 0;
  while (true) {
    if (command() >= until) return absl::CancelledError("the job was stopped");
    const absl::Status status = call();
    if (status.ok()) return status;
    // An upload that another connection took over is ABORTED, too.
    if (absl::IsAborted(status) && IsLost()) return status;
    if (!IsBrokenConnection(status) &&
        ((!MayPass(status) && !absl::IsAborted(status)) ||
         ++refusals >= kMaxRefusals)) {
      return status;
    }
    {
      MutexLock lock(&mutex_);
      if (OutOfPatience()) {
        return absl::UnavailableError(status.message());
      }
    }
    Sleep(backoff.Next(), until);
  }
}

void LeaseKeeper::Enqueue(v1::WorkerEvent event) {
  event.set_worker_sequence(++last_sequence_);
  events_.push_back({std::move(event), Clock::now()});
}

void LeaseKeeper::EnqueueProgress() {
  // While nothing can be sent, only the newest progress is worth keeping.
  if (!events_.empty() && events_.back().event.has_progress()) {
    events_.pop_back();
  }
  v1::WorkerEvent event;
  *event.mutable_progress() = progress_;
  Enqueue(std::move(event));
  progress_is_new_ = false;
  last_progress_ = Clock::now();
}

void LeaseKeeper::ReportProgress(const v1::JobProgress& progress) {
  MutexLock lock(&mutex_);
  progress_ = progress;
  progress_is_new_ = true;
  if (Clock::now() - last_progress_ >=
      absl::ToChronoNanoseconds(options_.progress_interval)) {
    EnqueueProgress();
  }
}

void LeaseKeeper::ReportEvaluation(const v1::CheckpointEvaluation& evaluation) {
  v1::WorkerEvent event;
  *event.mutable_evaluation() = evaluation;
  MutexLock lock(&mutex_);
  Enqueue(std::move(event));
  // There are few, and people wait for them.
  flush_ = true;
  changed_.NotifyAll();
}

v1::ReportEventsRequest LeaseKeeper::UnsentEvaluations() const {
  v1::ReportEventsRequest unsent;
  MutexLock lock(&mutex_);
  for (const Event& event : events_) {
    if (event.event.has_evaluation()) *unsent.add_events() = event.event;
  }
  return unsent;
}

void LeaseKeeper::Log(v1::LogSeverity severity, absl::string_view text) {
  LogWorker(absl::StrCat(key_.job_id(), ": ", text));
  v1::WorkerEvent event;
  event.mutable_log()->set_severity(severity);
  const std::string whole = ReplaceInvalidUtf8(text);
  event.mutable_log()->set_text(whole.substr(
      0, CompleteUtf8Prefix(absl::string_view(whole).substr(0, kMaxLogBytes))));
  MutexLock lock(&mutex_);
  Enqueue(std::move(event));
}

void LeaseKeeper::Flush() {
  MutexLock lock(&mutex_);
  if (progress_is_new_) EnqueueProgress();
  while (!events_.empty() && !lost_ && !OutOfPatience()) {
    flush_ = true;
    changed_.NotifyAll();
    changed_.WaitUntil(&mutex_, Clock::now() + heartbeat_);
  }
}

void LeaseKeeper::Lose() {
  bool tell = false;
  {
    MutexLock lock(&mutex_);
    tell = !lost_ && !completing_;
    lost_ = true;
    changed_.NotifyAll();
  }
  if (tell) LogWorker(absl::StrCat(key_.job_id(), ": the lease is lost"));
  service_->CancelTransfers();
}

bool LeaseKeeper::IsLost() {
  Beat();
  return command() == JobCommand::kDrop;
}

void LeaseKeeper::Unanswered(const absl::Status& status) {
  bool stuck = false;
  {
    MutexLock lock(&mutex_);
    if (!unanswered_) {
      LogWorker(absl::StrCat(key_.job_id(), ": the server does not answer, ",
                             "going on without: ", status.message()));
    }
    unanswered_ = true;
    stuck = Clock::now() - last_answer_ > ttl_;
  }
  // Whatever hangs on a connection that died silently begins again.
  if (stuck) service_->CancelTransfers();
}

bool LeaseKeeper::Beat() {
  v1::HeartbeatRequest request;
  *request.mutable_lease() = key_;
  {
    MutexLock lock(&mutex_);
    *request.mutable_progress() = progress_;
  }
  const absl::StatusOr<v1::HeartbeatResponse> answer =
      service_->Heartbeat(request);
  if (absl::IsAborted(answer.status()) ||
      (answer.ok() && answer->directive() == v1::WORKER_DIRECTIVE_LEASE_LOST)) {
    Lose();
    return true;
  }
  if (!answer.ok()) {
    Unanswered(answer.status());
    return false;
  }
  const bool cancel = answer->directive() == v1::WORKER_DIRECTIVE_CANCEL;
  {
    MutexLock lock(&mutex_);
    if (unanswered_) {
      LogWorker(absl::StrCat(key_.job_id(), ": the server answers again"));
    }
    unanswered_ = false;
    last_answer_ = Clock::now();
    directive_ = answer->directive();
    const double ratio = answer->duty_ratio();
    duty_ratio_ = directive_ == v1::WORKER_DIRECTIVE_THROTTLE && ratio > 0
                      ? std::clamp(ratio, 0.001, 1.0)
                      : 1.0;
    changed_.NotifyAll();
  }
  if (cancel) service_->CancelTransfers();
  return true;
}

bool LeaseKeeper::SendEvents() {
  while (true) {
    v1::ReportEventsRequest request;
    *request.mutable_lease() = key_;
    {
      MutexLock lock(&mutex_);
      // The heartbeat before has told the newest progress already.
      if (progress_is_new_ && !events_.empty() &&
          events_.back().event.has_progress()) {
        EnqueueProgress();
      }
      const Clock::time_point now = Clock::now();
      for (const Event& event : events_) {
        if (request.events_size() == kMaxEventsPerCall) break;
        v1::WorkerEvent* const sent = request.add_events();
        *sent = event.event;
        sent->set_age_seconds(
            std::chrono::duration<double>(now - event.time).count());
      }
    }
    if (request.events().empty()) return true;
    const absl::StatusOr<v1::ReportEventsResponse> answer =
        service_->ReportEvents(request);
    if (absl::IsAborted(answer.status())) {
      Lose();
      return true;
    }
    int64_t stored = 0;
    if (answer.ok()) {
      stored = answer->stored_through();
    } else if (absl::IsInvalidArgument(answer.status())) {
      // They would stand in the way of all later ones.
      LogWorker(absl::StrCat(
          key_.job_id(), ": events were refused: ", answer.status().message()));
      stored = request.events(request.events_size() - 1).worker_sequence();
    } else {
      Unanswered(answer.status());
      return false;
    }
    MutexLock lock(&mutex_);
    while (!events_.empty() &&
           events_.front().event.worker_sequence() <= stored) {
      events_.pop_front();
    }
    changed_.NotifyAll();
    if (stored < request.events(0).worker_sequence()) return true;
  }
}

void LeaseKeeper::Run() {
  Backoff backoff(options_.backoff, seed_ + 1);
  while (true) {
    {
      MutexLock lock(&mutex_);
      flush_ = false;
    }
    const bool answered = Beat() && SendEvents();
    Clock::duration wait = heartbeat_;
    if (answered) {
      backoff.Reset();
    } else {
      wait = std::min<Clock::duration>(
          wait, absl::ToChronoNanoseconds(backoff.Next()));
    }
    const Clock::time_point next = Clock::now() + wait;
    MutexLock lock(&mutex_);
    while (!ended_ && !lost_ && !(answered && flush_) &&
           changed_.WaitUntil(&mutex_, next)) {
    }
    if (ended_ || lost_) return;
  }
}

}  // namespace pot
