#ifndef POT_SERVER_RPC_SCORE_H_
#define POT_SERVER_RPC_SCORE_H_

#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "server/rpc/call.h"

namespace pot {

// A reactor that deletes itself.
grpc::ServerUnaryReactor* StartScore(const ServiceContext& context,
                                     grpc::CallbackServerContext* rpc,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response);

}  // namespace pot

#endif  // POT_SERVER_RPC_SCORE_H_
