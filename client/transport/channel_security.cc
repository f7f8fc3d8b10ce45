#include "client/transport/channel_security.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/transport/server_address.h"
#include "client/transport/token.h"
#include "engine/base/file.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/client_interceptor.h"

namespace pot {
namespace {

constexpr size_t kMaxPemBytes = 1 << 20;

absl::StatusOr<std::string> ReadPem(absl::string_view flag,
                                    const std::string& path,
                                    absl::string_view kind) {
  if (path.empty()) return std::string();
  absl::StatusOr<std::string> pem = ReadFile(path, kMaxPemBytes);
  if (!pem.ok()) {
    return absl::Status(pem.status().code(),
                        absl::StrCat("--", flag, ": ", pem.status().message()));
  }
  // gRPC would say no more than that it cannot connect.
  if (!absl::StrContains(*pem, absl::StrCat(kind, "-----"))) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, ": ", Quote(path), " holds no PEM ", kind));
  }
  return pem;
}

absl::StatusOr<std::string> LoadToken(const ChannelSecurityFlags& flags) {
  if (flags.token_file.empty()) {
    if (flags.token.empty()) return std::string();
    const absl::Status status = CheckToken(flags.token);
    if (status.ok()) return flags.token;
    return absl::InvalidArgumentError(
        absl::StrCat("POT_TOKEN ", status.message()));
  }
  absl::StatusOr<std::string> token = ReadTokenFile(flags.token_file);
  if (token.ok()) return token;
  return absl::Status(token.status().code(),
                      absl::StrCat("--token-file: ", token.status().message()));
}

// gRPC's own call credentials refuse to go over a connection without TLS, also
// to this machine.
class AddToken final : public grpc::experimental::Interceptor {
 public:
  explicit AddToken(const std::string* value) : value_(value) {}

  void Intercept(
      grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(
            grpc::experimental::InterceptionHookPoints::
                PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->emplace("authorization", *value_);
    }
    methods->Proceed();
  }

 private:
  const std::string* const value_;
};

class AddTokenFactory final
    : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit AddTokenFactory(const std::string& token)
      : value_(absl::StrCat("Bearer ", token)) {}

  grpc::experimental::Interceptor* CreateClientInterceptor(
      grpc::experimental::ClientRpcInfo*) override {
    return new AddToken(&value_);
  }

 private:
  // Outlives the calls: the channel owns the factory.
  const std::string value_;
};

}  // namespace

absl::StatusOr<ChannelSecurity> LoadChannelSecurity(
    const ChannelSecurityFlags& flags, absl::string_view server) {
  ChannelSecurity security;
  POT_ASSIGN_OR_RETURN(security.token, LoadToken(flags));
  if (flags.tls_cert.empty() != flags.tls_key.empty()) {
    return absl::InvalidArgumentError(
        "--tls-cert and --tls-key belong together");
  }
  const bool tls =
      flags.tls || !flags.tls_ca.empty() || !flags.tls_cert.empty();
  if (!tls) {
    if (!security.token.empty() && !IsLocalServer(server)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "a token would go to ", Quote(server),
          " unencrypted: use --tls (or --tls-ca FILE), or no token"));
    }
    security.credentials = grpc::InsecureChannelCredentials();
    return security;
  }
  grpc::SslCredentialsOptions options;
  POT_ASSIGN_OR_RETURN(options.pem_root_certs,
                       ReadPem("tls-ca", flags.tls_ca, "CERTIFICATE"));
  POT_ASSIGN_OR_RETURN(options.pem_cert_chain,
                       ReadPem("tls-cert", flags.tls_cert, "CERTIFICATE"));
  POT_ASSIGN_OR_RETURN(options.pem_private_key,
                       ReadPem("tls-key", flags.tls_key, "PRIVATE KEY"));
  security.credentials = grpc::SslCredentials(options);
  return security;
}

std::shared_ptr<grpc::Channel> CreateSecureChannel(
    const std::string& server, const ChannelSecurity& security,
    const grpc::ChannelArguments& arguments) {
  if (security.token.empty()) {
    return grpc::CreateCustomChannel(server, security.credentials, arguments);
  }
  std::vector<
      std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>>
      interceptors;
  interceptors.push_back(std::make_unique<AddTokenFactory>(security.token));
  return grpc::experimental::CreateCustomChannelWithInterceptors(
      server, security.credentials, arguments, std::move(interceptors));
}

}  // namespace pot
