#include "server/rpc/call.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "engine/base/status_macros.h"
#include "server/rpc/caller.h"
#include "server/rpc/status.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

absl::Time DeadlineOf(const grpc::CallbackServerContext& rpc) {
  const std::chrono::system_clock::time_point deadline = rpc.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) {
    return absl::InfiniteFuture();
  }
  return absl::FromChrono(deadline);
}

}  // namespace

absl::Status CallTracker::Enter() {
  MutexLock lock(&mutex_);
  if (draining_) {
    return WithDetails(absl::UnavailableError("the server is shutting down"),
                       {.reason = "DRAINING", .retry_after = absl::Seconds(1)});
  }
  ++running_;
  return absl::OkStatus();
}

void CallTracker::Leave() {
  MutexLock lock(&mutex_);
  if (--running_ == 0) idle_.NotifyAll();
}

void CallTracker::BeginDrain() {
  MutexLock lock(&mutex_);
  draining_ = true;
}

bool CallTracker::WaitUntilIdle(absl::Time deadline) {
  const absl::Duration left = std::clamp(
      deadline - absl::Now(), absl::ZeroDuration(), absl::Hours(24 * 365));
  const auto until =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(left);
  MutexLock lock(&mutex_);
  while (running_ > 0) {
    if (!idle_.WaitUntil(&mutex_, until)) return running_ == 0;
  }
  return true;
}

int64_t CallTracker::running() const {
  MutexLock lock(&mutex_);
  return running_;
}

Call::Call(CallTracker* calls, absl::string_view method,
           const grpc::CallbackServerContext& rpc)
    : calls_(calls), rpc_(rpc), start_(absl::Now()) {
  record_.method = std::string(method);
}

Call::~Call() {
  if (!ended_) End(absl::CancelledError("the call was dropped"));
}

absl::Status Call::Admit() {
  AccessControl* const access = calls_->access();
  if (access == nullptr) return absl::OkStatus();
  POT_ASSIGN_OR_RETURN(admission_,
                       access->Admit(record_.method, AuthorizationOf(rpc_)));
  return absl::OkStatus();
}

absl::Status Call::Enter() {
  POT_RETURN_IF_ERROR(Admit());
  const absl::Status status = calls_->Enter();
  entered_ = status.ok();
  return status;
}

absl::Status Call::EnterWatch() {
  POT_RETURN_IF_ERROR(Enter());
  if (std::exchange(entered_, false)) calls_->Leave();
  return absl::OkStatus();
}

void Call::SetRequestId(const std::string& request_id) {
  record_.request_id = request_id;
}

void Call::SetModel(const LoadedModel& model) {
  record_.model = model.identity.name;
  record_.version = model.identity.version;
  record_.sha256 = model.identity.sha256;
}

void Call::SetUsage(const TaskUsage& usage, const TaskTimings& timings) {
  if (admission_ != nullptr) {
    admission_->set_tokens(usage.prompt_tokens + usage.generated_tokens);
  }
  record_.prompt_tokens = usage.prompt_tokens;
  record_.generated_tokens = usage.generated_tokens;
  record_.queue = timings.queue;
  record_.prefill = timings.prefill;
  record_.decode = timings.decode;
  record_.first_token = timings.first_token;
}

grpc::Status Call::End(const absl::Status& status) {
  ended_ = true;
  record_.total = elapsed();
  record_.code = absl::StatusCodeToString(status.code());
  record_.reason = ErrorReason(status);
  if (!status.ok()) {
    record_.message = GetDetails(status).value_or(ErrorDetails()).log_message;
    if (record_.message.empty()) {
      record_.message = std::string(status.message());
    }
  }
  LogRequest(record_);
  if (record_.version != 0) {
    calls_->ReportOutcome(record_.model, record_.version, status);
  }
  admission_.reset();
  if (std::exchange(entered_, false)) calls_->Leave();
  return ToGrpcStatus(status);
}

Patience::Patience(GenerationScheduler* scheduler,
                   const grpc::CallbackServerContext& rpc)
    : scheduler_(scheduler),
      deadline_(DeadlineOf(rpc)),
      cancelled_(std::make_shared<std::atomic<bool>>(false)) {}

void Patience::OnCancel() {
  // gRPC's timers may fire a little early.
  constexpr absl::Duration kSlack = absl::Milliseconds(5);
  if (absl::Now() + kSlack < deadline_) cancelled_->store(true);
  scheduler_->Wake();
}

}  // namespace pot
