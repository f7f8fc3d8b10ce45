#ifndef POT_SERVER_RPC_WATCH_MODELS_H_
#define POT_SERVER_RPC_WATCH_MODELS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "server/rpc/call.h"
#include "server/serving/model_repository.h"

namespace pot {

// WatchModels of `name`, or only the end of the call when `begun` is an error.
// Buffers one event for each version at most: where a client reads slower than
// a version changes, it sees the latest state and not each one between.
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartWatchModels(
    std::unique_ptr<Call> call, const absl::Status& begun,
    ModelRepository* repository, const std::string& name);

}  // namespace pot

#endif  // POT_SERVER_RPC_WATCH_MODELS_H_
