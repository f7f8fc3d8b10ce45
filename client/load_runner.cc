#include "client/load_runner.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/rpc_status.h"
#include "engine/base/mutex.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/inference.grpc.pb.h"

namespace pot {
namespace {

using Clock = std::chrono::steady_clock;

constexpr absl::Duration kConnectTimeout = absl::Seconds(10);
constexpr double kReportInterval = 0.1;
constexpr double kNever = std::numeric_limits<double>::infinity();

double Seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

// Tokens that a message brings. A server that sends no ids is counted by its
// messages.
int64_t TokensOf(const v1::GenerateStreamResponse& message) {
  if (!message.has_chunk()) return 0;
  const v1::GenerateChunk& chunk = message.chunk();
  return chunk.token_ids().empty() ? (chunk.text().empty() ? 0 : 1)
                                   : chunk.token_ids_size();
}

class StreamCall;

// Calls that have ended, for the thread that sends.
class Finished {
 public:
  void Add(StreamCall* call) {
    MutexLock lock(&mutex_);
    calls_.push_back(call);
    added_.NotifyOne();
  }
  // Waits for one, at most until `deadline`.
  std::vector<StreamCall*> Take(Clock::time_point deadline) {
    MutexLock lock(&mutex_);
    while (calls_.empty() && added_.WaitUntil(&mutex_, deadline)) {
    }
    return std::exchange(calls_, {});
  }

 private:
  Mutex mutex_;
  CondVar added_;
  std::vector<StreamCall*> calls_ ABSL_GUARDED_BY(mutex_);
};

// One request. Once it has added itself to `finished` nothing but the thread
// that takes it out uses it.
class StreamCall final
    : public grpc::ClientReadReactor<v1::GenerateStreamResponse> {
 public:
  StreamCall(const Connection& connection, v1::GenerateRequest request,
             double due, Clock::time_point origin, Finished* finished)
      : call_(connection), origin_(origin), finished_(finished) {
    *request_.mutable_request() = std::move(request);
    record_.due = due;
  }

  void Start(v1::InferenceService::Stub* stub) {
    record_.sent = Now();
    stub->async()->GenerateStream(call_.context(), &request_, this);
    StartRead(&response_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    const int64_t tokens = TokensOf(response_);
    if (tokens > 0) AddTokens(tokens);
    StartRead(&response_);
  }

  void OnDone(const grpc::Status& status) override {
    record_.end = Now();
    record_.code = static_cast<absl::StatusCode>(status.error_code());
    if (!status.ok()) {
      const RpcErrorInfo info = ErrorInfoOf(status);
      record_.reason = info.reason;
      record_.told_when_to_retry = info.retry_seconds.has_value();
      status_ = call_.ToStatus(status);
    }
    finished_->Add(this);
  }

  RequestRecord& record() { return record_; }
  const absl::Status& status() const { return status_; }

 private:
  double Now() const { return Seconds(Clock::now() - origin_); }

  void AddTokens(int64_t tokens) {
    const double now = Now();
    if (record_.first_token.has_value()) {
      record_.gaps.push_back(static_cast<float>(now - last_token_));
    } else {
      record_.first_token = now;
    }
    record_.gaps.insert(record_.gaps.end(), static_cast<size_t>(tokens - 1),
                        0.0f);
    last_token_ = now;
  }

  Call call_;
  const Clock::time_point origin_;
  Finished* const finished_;
  v1::GenerateStreamRequest request_;
  v1::GenerateStreamResponse response_;
  RequestRecord record_;
  double last_token_ = 0;
  absl::Status status_;
};

// When requests are due.
class Schedule {
 public:
  // Nothing is due from `end` on.
  Schedule(const LoadLevel& level, bool poisson, uint64_t seed, double end)
      : end_(end) {
    if (level.open()) {
      arrivals_.emplace(level.rate, poisson, seed);
      due_.push_back(arrivals_->Next());
    } else {
      due_.assign(static_cast<size_t>(level.concurrency), 0.0);
    }
  }

  // kNever when there is none, in a closed loop: none until one ends.
  double next() const {
    return due_.empty() || due_.front() >= end_ ? kNever : due_.front();
  }
  void Pop() {
    due_.pop_front();
    if (arrivals_.has_value()) due_.push_back(arrivals_->Next());
  }
  // A request has ended at `now`.
  void OnEnd(double now, bool failed) {
    if (arrivals_.has_value()) return;
    const double due = failed ? now + LoadRunner::kPauseAfterFailure : now;
    due_.insert(std::upper_bound(due_.begin(), due_.end(), due), due);
  }

 private:
  const double end_;
  std::optional<Arrivals> arrivals_;
  std::deque<double> due_;  // ascending
};

}  // namespace

class LoadRunner::Impl {
 public:
  Impl(const Connection& connection, const LoadPlan& plan,
       const LoadPrompts& prompts)
      : connection_(connection), plan_(plan), prompts_(prompts) {}

  absl::Status Connect();
  absl::StatusOr<std::vector<RequestRecord>> Run(
      const LoadLevel& level,
      const std::function<void(const Progress&)>& report);

 private:
  void Send(double due, Clock::time_point origin);

  const Connection& connection_;
  const LoadPlan& plan_;
  const LoadPrompts& prompts_;
  std::vector<std::unique_ptr<v1::InferenceService::Stub>> stubs_;
  uint64_t sent_ = 0;  // of all levels
  int64_t in_flight_ = 0;
  Finished finished_;
};

absl::Status LoadRunner::Impl::Connect() {
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int i = 0; i < plan_.connections; ++i) {
    channels.push_back(connection_.NewPlainChannel());
    channels.back()->GetState(/*try_to_connect=*/true);
  }
  const auto deadline = absl::ToChronoTime(absl::Now() + kConnectTimeout);
  for (const auto& channel : channels) {
    if (!channel->WaitForConnected(deadline)) {
      return absl::UnavailableError(absl::StrCat(
          "no ", plan_.connections, " connections to ", connection_.server(),
          " within ", absl::FormatDuration(kConnectTimeout)));
    }
    stubs_.push_back(v1::InferenceService::NewStub(channel));
  }
  return absl::OkStatus();
}

void LoadRunner::Impl::Send(double due, Clock::time_point origin) {
  auto* const call = new StreamCall(connection_, prompts_.Request(sent_), due,
                                    origin, &finished_);
  ++in_flight_;
  call->Start(stubs_[sent_++ % stubs_.size()].get());
}

absl::StatusOr<std::vector<RequestRecord>> LoadRunner::Impl::Run(
    const LoadLevel& level,
    const std::function<void(const Progress&)>& report) {
  const double end = absl::ToDoubleSeconds(plan_.warmup + plan_.duration);
  Schedule schedule(level, plan_.poisson, plan_.seed, end);
  const Interrupter& interrupter = *connection_.interrupter();
  std::vector<RequestRecord> records;
  int64_t failed = 0;
  absl::Status failure;
  const Clock::time_point origin = Clock::now();
  for (;;) {
    double now = Seconds(Clock::now() - origin);
    while (!interrupter.interrupted() && schedule.next() <= now) {
      Send(schedule.next(), origin);
      schedule.Pop();
    }
    const double next = interrupter.interrupted() ? kNever : schedule.next();
    if (in_flight_ == 0 && next == kNever) break;
    const double wait = std::min(next, now + kReportInterval);
    for (StreamCall* const call :
         finished_.Take(origin + std::chrono::duration_cast<Clock::duration>(
                                     std::chrono::duration<double>(wait)))) {
      const std::unique_ptr<StreamCall> owned(call);
      --in_flight_;
      if (!call->status().ok()) {
        ++failed;
        failure = call->status();
      }
      now = Seconds(Clock::now() - origin);
      schedule.OnEnd(now, !call->status().ok());
      records.push_back(std::move(call->record()));
    }
    report({now, static_cast<int64_t>(records.size()), failed, in_flight_});
  }
  if (interrupter.interrupted()) return absl::CancelledError("interrupted");
  if (failed > 0 && failed == static_cast<int64_t>(records.size())) {
    return failure;
  }
  return records;
}

LoadRunner::LoadRunner(const Connection& connection, const LoadPlan& plan,
                       const LoadPrompts& prompts)
    : impl_(std::make_unique<Impl>(connection, plan, prompts)) {}

LoadRunner::~LoadRunner() = default;

absl::Status LoadRunner::Connect() { return impl_->Connect(); }

absl::StatusOr<std::vector<RequestRecord>> LoadRunner::Run(
    const LoadLevel& level,
    const std::function<void(const Progress&)>& report) {
  return impl_->Run(level, report);
}

}  // namespace pot
