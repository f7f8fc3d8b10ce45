#include "server/rpc/long_call.h"

#include <chrono>
#include <utility>

#include "absl/time/clock.h"
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

class LongCallReactor final : public grpc::ServerUnaryReactor {
 public:
  explicit LongCallReactor(grpc::ByteBuffer* response) : response_(response) {}

  void set_call(std::shared_ptr<LongCall> call) { call_ = std::move(call); }

  void FinishWith(grpc::Status status, grpc::ByteBuffer answer) {
    *response_ = std::move(answer);
    Finish(std::move(status));
  }

  void OnCancel() override { call_->OnCancel(); }
  void OnDone() override { delete this; }

 private:
  grpc::ByteBuffer* const response_;  // alive until Finish()
  std::shared_ptr<LongCall> call_;
};

}  // namespace

LongCall::LongCall(std::unique_ptr<Call> call,
                   const grpc::CallbackServerContext& rpc,
                   FinishFunction finish)
    : call_(std::move(call)),
      deadline_(DeadlineOf(rpc)),
      finish_(std::move(finish)) {}

void LongCall::Finish(const absl::Status& status, grpc::ByteBuffer answer) {
  if (finished_.exchange(true)) return;
  if (!status.ok()) answer.Clear();
  finish_(call_->End(status), std::move(answer));
}

void LongCall::OnCancel() {
  // gRPC's timers may fire a little early.
  constexpr absl::Duration kSlack = absl::Milliseconds(5);
  if (absl::Now() + kSlack < deadline_) {
    Finish(WithDetails(absl::CancelledError("the client cancelled the call"),
                       {.reason = "CLIENT_CANCELLED"}));
  } else {
    Finish(WithDetails(
        absl::DeadlineExceededError("the deadline of the call passed"),
        {.reason = "DEADLINE_PASSED"}));
  }
}

OpenCall StartOpenCall(grpc::CallbackServerContext* rpc,
                       std::unique_ptr<Call> call, grpc::ByteBuffer* response) {
  auto* const reactor = new LongCallReactor(response);
  // The reactor is alive until it is finished, which happens only here.
  const auto shared = std::make_shared<LongCall>(
      std::move(call), *rpc,
      [reactor](grpc::Status status, grpc::ByteBuffer answer) {
        reactor->FinishWith(std::move(status), std::move(answer));
      });
  reactor->set_call(shared);
  return {reactor, shared};
}

grpc::ServerUnaryReactor* StartLongCall(grpc::CallbackServerContext* rpc,
                                        std::unique_ptr<Call> call,
                                        const absl::Status& begun,
                                        WorkerPool* pool, LongWork work,
                                        grpc::ByteBuffer* response) {
  const OpenCall open = StartOpenCall(rpc, std::move(call), response);
  const std::shared_ptr<LongCall> shared = open.call;
  absl::Status status = begun;
  if (status.ok()) {
    status = pool->Submit([shared, work = std::move(work)] {
      grpc::ByteBuffer answer;
      const absl::Status result = work(*shared, &answer);
      shared->Finish(result, std::move(answer));
    });
  }
  if (!status.ok()) shared->Finish(status);
  return open.reactor;
}

}  // namespace pot
