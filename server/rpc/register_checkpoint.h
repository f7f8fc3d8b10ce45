#ifndef POT_SERVER_RPC_REGISTER_CHECKPOINT_H_
#define POT_SERVER_RPC_REGISTER_CHECKPOINT_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "server/rpc/call.h"
#include "server/rpc/worker_pool.h"
#include "server/serving/model_repository.h"

namespace pot {

// RegisterCheckpoint, or only the end of the call when `begun` is an error.
// Chunks, of 1 MiB at most, are hashed and written where they arrive; `pool`
// verifies, publishes and loads. READ_TIMEOUT (StreamWatch) after silence.
grpc::ServerReadReactor<grpc::ByteBuffer>* StartRegisterCheckpoint(
    grpc::CallbackServerContext* rpc, std::unique_ptr<Call> call,
    const absl::Status& begun, ModelRepository* repository, WorkerPool* pool,
    int64_t max_bytes, absl::Duration read_timeout, grpc::ByteBuffer* response);

}  // namespace pot

#endif  // POT_SERVER_RPC_REGISTER_CHECKPOINT_H_
