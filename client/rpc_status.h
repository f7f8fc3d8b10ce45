#ifndef POT_CLIENT_RPC_STATUS_H_
#define POT_CLIENT_RPC_STATUS_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace grpc {
class Status;
}

namespace pot {

// What google.rpc details tell a program.
struct RpcErrorInfo {
  std::string reason;                   // empty: not told
  std::optional<double> retry_seconds;  // of RetryInfo
};
RpcErrorInfo ErrorInfoOf(const grpc::Status& status);

// The status of a call to `server` with its google.rpc details folded into the
// message, which is one printable line:
//   no model 'x' (reason MODEL_NOT_FOUND; limit 3; value 5)
// UNAVAILABLE names the server; without details, when the transport failed, it
// also says what to try.
absl::Status FromGrpcStatus(const grpc::Status& status,
                            absl::string_view server);

}  // namespace pot

#endif  // POT_CLIENT_RPC_STATUS_H_
