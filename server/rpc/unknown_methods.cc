#include "server/rpc/unknown_methods.h"

#include "absl/status/status.h"
#include "server/rpc/caller.h"
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
  if (access_ != nullptr) {
    const absl::Status status =
        access_->Authenticate(AuthorizationOf(*rpc)).status();
    if (!status.ok()) return new Refusal(ToGrpcStatus(status));
  }
  return new Refusal(grpc::Status(grpc::StatusCode::UNIMPLEMENTED, ""));
}

}  // namespace pot
