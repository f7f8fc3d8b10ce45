// Generate and GenerateStream.
#ifndef POT_SERVER_RPC_GENERATE_H_
#define POT_SERVER_RPC_GENERATE_H_

#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "server/rpc/call.h"

namespace pot {

// A stream's messages that wait for its reader before its sequences are
// parked; up to one more per sequence may come in the step that is running.
inline constexpr size_t kMaxBufferedMessages = 64;

// Reactors that delete themselves. `context` outlives them.
grpc::ServerUnaryReactor* StartGenerate(const ServiceContext& context,
                                        grpc::CallbackServerContext* rpc,
                                        const grpc::ByteBuffer* request,
                                        grpc::ByteBuffer* response);
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartGenerateStream(
    const ServiceContext& context, grpc::CallbackServerContext* rpc,
    const grpc::ByteBuffer* request);

}  // namespace pot

#endif  // POT_SERVER_RPC_GENERATE_H_
