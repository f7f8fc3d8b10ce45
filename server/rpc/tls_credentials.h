#ifndef POT_SERVER_RPC_TLS_CREDENTIALS_H_
#define POT_SERVER_RPC_TLS_CREDENTIALS_H_

#include <cstdint>
#include <memory>

#include "engine/base/mutex.h"
#include "grpcpp/security/server_credentials.h"
#include "server/security/tls_files.h"

namespace pot {

// The certificate that new connections are shown, and the authority that
// theirs are checked against; may be replaced at any time. Connections that
// stand keep theirs. Thread-safe.
class TlsIdentity {
 public:
  explicit TlsIdentity(TlsMaterial material);

  void Replace(TlsMaterial material);

  // With TlsMaterial.client_ca clients must show a certificate of that
  // authority; whether there is one cannot change later. Of one port: each
  // port needs its own. To be held for as long as its gRPC server lives, which
  // by itself does not.
  static std::shared_ptr<grpc::ServerCredentials> Credentials(
      std::shared_ptr<TlsIdentity> identity);

  // The newest, and its number.
  std::shared_ptr<const TlsMaterial> Get(int64_t* generation) const;

 private:
  mutable Mutex mutex_;
  std::shared_ptr<const TlsMaterial> material_ ABSL_GUARDED_BY(mutex_);
  int64_t generation_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace pot

#endif  // POT_SERVER_RPC_TLS_CREDENTIALS_H_
