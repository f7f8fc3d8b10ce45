// The one conversion of errors to gRPC.
#ifndef POT_SERVER_RPC_STATUS_H_
#define POT_SERVER_RPC_STATUS_H_

#include <string>

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace pot {

// ErrorInfo.domain of every error.
inline constexpr char kErrorDomain[] = "pot.v1";

// Trailers of a call hold 8 KiB by default and carry the message twice, so
// longer messages and values are cut.
inline constexpr size_t kMaxErrorMessageBytes = 1024;
inline constexpr size_t kMaxErrorValueBytes = 256;

// Same code and message; ErrorDetails become a google.rpc.Status with one
// ErrorInfo and, as they say, RetryInfo and BadRequest, which gRPC sends as the
// trailer grpc-status-details-bin. Errors without details get the code's
// general reason.
grpc::Status ToGrpcStatus(const absl::Status& status);

// The reason that ToGrpcStatus sends; empty for OK.
std::string ErrorReason(const absl::Status& status);

}  // namespace pot

#endif  // POT_SERVER_RPC_STATUS_H_
