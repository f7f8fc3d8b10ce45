// Messages as bytes. gRPC's callback API answers a proto `string` that is not
// UTF-8 with UNIMPLEMENTED before a handler sees it; services that take
// grpc::ByteBuffer (WithRawCallbackMethod_..) and parse here can say what is
// wrong.
#ifndef POT_SERVER_RPC_WIRE_H_
#define POT_SERVER_RPC_WIRE_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"
#include "grpcpp/support/byte_buffer.h"

namespace pot {

// Parses `bytes` into `message`. INVALID_ARGUMENT with details: INVALID_UTF8,
// with the field's path and the offset of the wrong byte in it, when that is
// all that is wrong; MALFORMED_MESSAGE otherwise.
absl::Status ParseMessage(const grpc::ByteBuffer& bytes,
                          google::protobuf::Message* message);
absl::Status ParseMessage(absl::string_view bytes,
                          google::protobuf::Message* message);

// INTERNAL when a message is too large for protobuf (2 GiB).
absl::Status SerializeMessage(const google::protobuf::Message& message,
                              grpc::ByteBuffer* bytes);

// Protobuf prints every string that is not UTF-8 to standard error, which
// clients could flood; this drops those lines and keeps the others. Once per
// process, before the first message.
void SilenceProtobufUtf8Errors();

}  // namespace pot

#endif  // POT_SERVER_RPC_WIRE_H_
