#ifndef POT_SERVER_RPC_UNKNOWN_METHODS_H_
#define POT_SERVER_RPC_UNKNOWN_METHODS_H_

#include "grpcpp/generic/async_generic_service.h"
#include "server/observability/rpc_metrics.h"
#include "server/security/access_control.h"

namespace pot {

// Answers calls of methods that no service of the port has: UNIMPLEMENTED; but
// a caller without a valid token, where there are keys, is not told what there
// is and what not: UNAUTHENTICATED.
class UnknownMethods final : public grpc::CallbackGenericService {
 public:
  // `access`, null without keys, and `metrics` outlive the gRPC server.
  UnknownMethods(const AccessControl* access, RpcMetrics* metrics)
      : access_(access), metrics_(metrics) {}

  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* rpc) override;

 private:
  const AccessControl* const access_;
  RpcMetrics* const metrics_;
};

}  // namespace pot

#endif  // POT_SERVER_RPC_UNKNOWN_METHODS_H_
