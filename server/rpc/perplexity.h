#ifndef POT_SERVER_RPC_PERPLEXITY_H_
#define POT_SERVER_RPC_PERPLEXITY_H_

#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "server/rpc/call.h"

namespace pot {

// A reactor that deletes itself. Its memory is bounded however long the text
// is: one message with its tokens, kMaxBufferedTokens, one word (1 MiB) and a
// few windows. The client is read only as fast as its text is evaluated.
grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StartPerplexity(
    const ServiceContext& context, grpc::CallbackServerContext* rpc);

// Tokens that wait beyond which the next message is not read.
inline constexpr size_t kMaxBufferedTokens = size_t{1} << 15;

}  // namespace pot

#endif  // POT_SERVER_RPC_PERPLEXITY_H_
