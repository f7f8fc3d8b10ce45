#include "server/rpc/call.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "engine/base/status_macros.h"
#include "server/observability/trace_context.h"
#include "server/rpc/caller.h"
#include "server/rpc/status.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

constexpr char kInferenceService[] = "pot.v1.InferenceService";
constexpr size_t kMaxLoggedPromptBytes = 2048;

std::string TraceOf(const grpc::CallbackServerContext& rpc) {
  const auto [begin, end] = rpc.client_metadata().equal_range("traceparent");
  // One alone is valid.
  if (begin == end || std::next(begin) != end) return "";
  return TraceIdOf(
      absl::string_view(begin->second.data(), begin->second.size()));
}

// Whether a call that ended so was refused, rather than failed, cancelled or
// too late.
bool IsRejection(const absl::Status& status, const std::string& reason) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kDataLoss:
      return false;
    case absl::StatusCode::kDeadlineExceeded:
      return reason == "DEADLINE_INFEASIBLE";
    default:
      return true;
  }
}

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
    : calls_(calls),
      rpc_(rpc),
      start_(absl::Now()),
      metrics_(calls->rpc_metrics() == nullptr
                   ? nullptr
                   : calls->rpc_metrics()->Find(method)) {
  record_.method = std::string(method);
  record_.trace_id = TraceOf(rpc);
  if (metrics_ != nullptr) metrics_->Started();
}

Call::~Call() {
  if (!ended_) End(absl::CancelledError("the call was dropped"));
}

absl::Status Call::Admit() {
  AccessControl* const access = calls_->access();
  if (access == nullptr) return absl::OkStatus();
  POT_ASSIGN_OR_RETURN(admission_,
                       access->Admit(record_.method, AuthorizationOf(rpc_)));
  record_.caller = admission_->caller();
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

void Call::SetPrompt(const std::string& prompt) {
  record_.prompt = prompt.substr(0, kMaxLoggedPromptBytes);
}

void Call::SetModel(const LoadedModel& model) {
  if (calls_->serving_metrics() != nullptr) {
    model_metrics_ = calls_->serving_metrics()->Of(model.identity.name,
                                                   model.identity.version);
  }
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

void Call::CountOutcome(const absl::Status& status) {
  if (metrics_ == nullptr) return;
  metrics_->Handled(status.code(), record_.total);
  if (IsRejection(status, record_.reason)) {
    calls_->rpc_metrics()->CountRejection(record_.reason);
  }
  ServingMetrics* const serving = calls_->serving_metrics();
  if (serving == nullptr ||
      metrics_->description().service != kInferenceService) {
    return;
  }
  (model_metrics_ == nullptr ? serving->without_model() : model_metrics_)
      ->CountCall(record_.method, record_.code);
  const bool stopped = absl::IsCancelled(status) ||
                       record_.reason == "DEADLINE_PASSED" ||
                       record_.reason == "WRITE_TIMEOUT";
  if (stopped && patience_.has_value()) {
    const absl::Time given_up = patience_->given_up();
    if (given_up != absl::InfiniteFuture()) {
      serving->cancel_to_stop.Observe(
          std::max(absl::Now() - given_up, absl::ZeroDuration()));
    }
  }
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
  CountOutcome(status);
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
      cancelled_(std::make_shared<std::atomic<bool>>(false)),
      given_up_nanos_(std::make_shared<std::atomic<int64_t>>(0)) {}

absl::Time Patience::given_up() const {
  const int64_t nanos = given_up_nanos_->load();
  if (nanos != 0) return absl::FromUnixNanos(nanos);
  return deadline_ < absl::Now() ? deadline_ : absl::InfiniteFuture();
}

void Patience::OnCancel() {
  // gRPC's timers may fire a little early.
  constexpr absl::Duration kSlack = absl::Milliseconds(5);
  int64_t never = 0;
  given_up_nanos_->compare_exchange_strong(never, absl::GetCurrentTimeNanos());
  if (absl::Now() + kSlack < deadline_) cancelled_->store(true);
  scheduler_->Wake();
}

}  // namespace pot
