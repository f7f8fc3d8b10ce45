#include "server/rpc/tls_credentials.h"

#include <atomic>
#include <string>
#include <utility>

#include "grpc/grpc.h"
#include "grpc/grpc_security.h"

namespace pot {
namespace {

// gRPC 1.51 has certificates that change for C++ only as an experiment, whose
// watcher takes a file that is half-written. Its C API, which Python's
// dynamic_ssl_server_credentials is made of, asks at every handshake, and we
// answer with what was checked.
class ReloadingCredentials final : public grpc::ServerCredentials {
 public:
  explicit ReloadingCredentials(std::shared_ptr<TlsIdentity> identity)
      : identity_(std::move(identity)) {
    int64_t generation = 0;
    const bool mutual = !identity_->Get(&generation)->client_ca.empty();
    credentials_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(
            mutual ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                   : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
            &Fetch, this));
  }
  // gRPC asks no more: whoever holds the credentials has shut its server down.
  ~ReloadingCredentials() override {
    grpc_server_credentials_release(credentials_);
  }

  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address,
                      grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config) {
    auto* const credentials = static_cast<ReloadingCredentials*>(self);
    int64_t generation = 0;
    const std::shared_ptr<const TlsMaterial> material =
        credentials->identity_->Get(&generation);
    if (credentials->given_.exchange(generation) == generation) {
      return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    }
    const grpc_ssl_pem_key_cert_pair pair = {material->key.c_str(),
                                             material->certificate.c_str()};
    // gRPC 1.51 aborts without roots, also where it asks for no certificate and
    // looks at none.
    const std::string& roots = material->client_ca.empty()
                                   ? material->certificate
                                   : material->client_ca;
    *config =
        grpc_ssl_server_certificate_config_create(roots.c_str(), &pair, 1);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const std::shared_ptr<TlsIdentity> identity_;
  grpc_server_credentials* credentials_ = nullptr;
  // The generation that gRPC has; of one port.
  std::atomic<int64_t> given_ = 0;
};

}  // namespace

TlsIdentity::TlsIdentity(TlsMaterial material)
    : material_(std::make_shared<const TlsMaterial>(std::move(material))) {}

void TlsIdentity::Replace(TlsMaterial material) {
  MutexLock lock(&mutex_);
  material_ = std::make_shared<const TlsMaterial>(std::move(material));
  ++generation_;
}

std::shared_ptr<grpc::ServerCredentials> TlsIdentity::Credentials(
    std::shared_ptr<TlsIdentity> identity) {
  return std::make_shared<ReloadingCredentials>(std::move(identity));
}

std::shared_ptr<const TlsMaterial> TlsIdentity::Get(int64_t* generation) const {
  MutexLock lock(&mutex_);
  *generation = generation_;
  return material_;
}

}  // namespace pot
