// Calls whose work outlasts their client's patience.
#ifndef POT_SERVER_RPC_LONG_CALL_H_
#define POT_SERVER_RPC_LONG_CALL_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "grpcpp/support/status.h"
#include "server/rpc/call.h"
#include "server/rpc/worker_pool.h"

namespace pot {

// The end of a call, which its result and the client's going race for: the
// first of them ends it, the other does nothing. Thread-safe.
class LongCall {
 public:
  // `finish` is called once; `answer` is empty after an error.
  using FinishFunction = std::function<void(grpc::Status, grpc::ByteBuffer)>;
  LongCall(std::unique_ptr<Call> call, const grpc::CallbackServerContext& rpc,
           FinishFunction finish);

  void Finish(const absl::Status& status, grpc::ByteBuffer answer = {});

  // For the reactor's OnCancel: CANCELLED, or DEADLINE_EXCEEDED when that is
  // why.
  void OnCancel();

  // Nobody waits any more.
  bool finished() const { return finished_; }

  // When the client stops waiting; InfiniteFuture without a deadline.
  absl::Time deadline() const { return deadline_; }

 private:
  const std::unique_ptr<Call> call_;
  const absl::Time deadline_;
  const FinishFunction finish_;
  std::atomic<bool> finished_{false};
};

// A unary call that whoever holds `call` finishes, from any thread.
struct OpenCall {
  grpc::ServerUnaryReactor* reactor = nullptr;  // for gRPC alone
  std::shared_ptr<LongCall> call;
};
OpenCall StartOpenCall(grpc::CallbackServerContext* rpc,
                       std::unique_ptr<Call> call, grpc::ByteBuffer* response);

// Computes an answer, on a worker thread.
using LongWork =
    std::function<absl::Status(const LongCall& call, grpc::ByteBuffer* answer)>;

// A unary call that `pool` works on; OK or an error of `begun`, which was
// parsed from the request, decides whether it does. The work goes on when the
// client is gone.
grpc::ServerUnaryReactor* StartLongCall(grpc::CallbackServerContext* rpc,
                                        std::unique_ptr<Call> call,
                                        const absl::Status& begun,
                                        WorkerPool* pool, LongWork work,
                                        grpc::ByteBuffer* response);

// Calls `wait(until)` again and again with short times until it returns
// something else than DEADLINE_EXCEEDED, or nobody waits any more.
template <typename Wait>
auto WaitInSlices(const LongCall& call, Wait wait) {
  constexpr absl::Duration kSlice = absl::Milliseconds(100);
  while (true) {
    auto result = wait(absl::Now() + kSlice);
    if (!absl::IsDeadlineExceeded(result.status()) || call.finished()) {
      return result;
    }
  }
}

}  // namespace pot

#endif  // POT_SERVER_RPC_LONG_CALL_H_
