// Unary calls that a pool works on.
#ifndef POT_SERVER_RPC_ANSWER_LATER_H_
#define POT_SERVER_RPC_ANSWER_LATER_H_

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/status_macros.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "server/rpc/call.h"
#include "server/rpc/long_call.h"
#include "server/rpc/wire.h"
#include "server/rpc/worker_pool.h"

namespace pot {

// Counts the call, then parses its request.
template <typename Request>
absl::Status BeginCall(const grpc::ByteBuffer& bytes, Request* request,
                       Call* call) {
  POT_RETURN_IF_ERROR(call->Enter());
  return ParseMessage(bytes, request);
}

// `prepare` makes the work, an absl::StatusOr<LongWork>, from a parsed request.
template <typename Request, typename Prepare>
grpc::ServerUnaryReactor* AnswerLater(CallTracker* calls, WorkerPool* pool,
                                      absl::string_view method,
                                      grpc::CallbackServerContext* rpc,
                                      const grpc::ByteBuffer& bytes,
                                      grpc::ByteBuffer* response,
                                      Prepare prepare) {
  auto call = std::make_unique<Call>(calls, method, *rpc);
  Request request;
  absl::Status status = BeginCall(bytes, &request, call.get());
  LongWork work;
  if (status.ok()) {
    absl::StatusOr<LongWork> prepared = prepare(request);
    status = prepared.status();
    if (prepared.ok()) work = *std::move(prepared);
  }
  return StartLongCall(rpc, std::move(call), status, pool, std::move(work),
                       response);
}

}  // namespace pot

#endif  // POT_SERVER_RPC_ANSWER_LATER_H_
