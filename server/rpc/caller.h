// Who calls.
#ifndef POT_SERVER_RPC_CALLER_H_
#define POT_SERVER_RPC_CALLER_H_

#include <string>

#include "absl/status/status.h"
#include "grpcpp/server_context.h"
#include "server/security/access_control.h"

namespace pot {

// The metadata `authorization` of a call; "" when there is none. Several values
// become one, which no token is.
std::string AuthorizationOf(const grpc::ServerContextBase& rpc);

// For the records of who did what: the name of the key; without keys (`access`
// null) the common name of the client's certificate, or "" without one.
std::string CallerName(const AccessControl* access,
                       const grpc::ServerContextBase& rpc);

// UNAUTHENTICATED or PERMISSION_DENIED unless the caller has one of `scopes`;
// OK without keys.
absl::Status CheckCallerScopes(const AccessControl* access,
                               const grpc::ServerContextBase& rpc,
                               ScopeSet scopes);

}  // namespace pot

#endif  // POT_SERVER_RPC_CALLER_H_
