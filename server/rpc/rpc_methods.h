#ifndef POT_SERVER_RPC_RPC_METHODS_H_
#define POT_SERVER_RPC_RPC_METHODS_H_

#include <vector>

#include "server/observability/rpc_metrics.h"

namespace pot {

// By which metrics name calls: those of all services of pot.v1, and
// kUnknownMethod for whatever else is called.
inline constexpr char kUnknownMethod[] = "unknown";
std::vector<RpcMethod> AllRpcMethods();

}  // namespace pot

#endif  // POT_SERVER_RPC_RPC_METHODS_H_
