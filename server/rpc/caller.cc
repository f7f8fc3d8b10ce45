#include "server/rpc/caller.h"

#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "grpc/grpc_security_constants.h"
#include "grpcpp/security/auth_context.h"

namespace pot {

std::string AuthorizationOf(const grpc::ServerContextBase& rpc) {
  std::string value;
  const auto [begin, end] = rpc.client_metadata().equal_range("authorization");
  for (auto entry = begin; entry != end; ++entry) {
    absl::StrAppend(
        &value, value.empty() ? "" : ", ",
        absl::string_view(entry->second.data(), entry->second.size()));
  }
  return value;
}

std::string CallerName(const AccessControl* access,
                       const grpc::ServerContextBase& rpc) {
  if (access != nullptr) {
    const absl::StatusOr<ApiKey> key =
        access->Authenticate(AuthorizationOf(rpc));
    return key.ok() ? key->name : "";
  }
  const std::shared_ptr<const grpc::AuthContext> context = rpc.auth_context();
  if (context == nullptr || !context->IsPeerAuthenticated()) return "";
  const std::vector<grpc::string_ref> names =
      context->FindPropertyValues(GRPC_X509_CN_PROPERTY_NAME);
  return names.empty() ? "" : std::string(names[0].data(), names[0].size());
}

absl::Status CheckCallerScopes(const AccessControl* access,
                               const grpc::ServerContextBase& rpc,
                               ScopeSet scopes) {
  if (access == nullptr) return absl::OkStatus();
  return access->CheckScopes(AuthorizationOf(rpc), scopes);
}

}  // namespace pot
