#include "server/rpc/unknown_methods.h"

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/rpc/caller.h"
#include "server/rpc/rpc_methods.h"
#include "server/rpc/status.h"

namespace pot {
namespace {

class Refusal final : public grpc::ServerGenericBidiReactor {
 public:
  explicit Refusal(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

}  // namespace

grpc::ServerGenericBidiReactor* UnknownMethods::CreateReactor(
    grpc::GenericCallbackServerContext* rpc) {
  absl::Status status;
  if (access_ != nullptr) {
    status = access_->Authenticate(AuthorizationOf(*rpc)).status();
  }
  const bool known = status.ok();
  if (known) status = absl::UnimplementedError("");
  RpcMetrics::Method* const method = metrics_->Find(kUnknownMethod);
  if (method != nullptr) {
    method->Started();
    method->Handled(status.code(), absl::ZeroDuration());
  }
  metrics_->CountRejection(ErrorReason(status));
  return new Refusal(known ? grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "")
                           : ToGrpcStatus(status));
}

}  // namespace pot
