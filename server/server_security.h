#ifndef POT_SERVER_SERVER_SECURITY_H_
#define POT_SERVER_SERVER_SECURITY_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/security/access_control.h"
#include "server/security/file_watcher.h"
#include "server/security/tls_files.h"

namespace grpc {
class ServerCredentials;
}

namespace pot {

class TlsIdentity;

// The settings of who may connect and call; empty: not set.
struct SecurityConfig {
  std::string token_file;  // keys
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;
  std::string worker_client_ca;
  absl::Duration reload_interval = absl::Seconds(1);

  bool tls() const { return !tls_cert.empty(); }
};

// Reads every file that `config` names. INVALID_ARGUMENT, a line for each thing
// that is wrong.
absl::Status CheckSecurityFiles(const SecurityConfig& config);

// Keys and certificates, which follow their files: what is broken is logged,
// and what was there before stays. Outlives the gRPC servers.
class ServerSecurity {
 public:
  static absl::StatusOr<std::unique_ptr<ServerSecurity>> Open(
      const SecurityConfig& config);
  ~ServerSecurity();
  ServerSecurity(const ServerSecurity&) = delete;
  ServerSecurity& operator=(const ServerSecurity&) = delete;

  // Null without keys.
  AccessControl* access() { return access_.get(); }

  // Of the port for all, and of that for trainers.
  const std::shared_ptr<grpc::ServerCredentials>& credentials() const {
    return credentials_;
  }
  const std::shared_ptr<grpc::ServerCredentials>& worker_credentials() const {
    return worker_credentials_;
  }

 private:
  explicit ServerSecurity(const SecurityConfig& config) : config_(config) {}

  absl::Status Start();
  void WatchTls(const TlsFiles& files, bool worker);
  void ReloadKeys();

  const SecurityConfig config_;
  std::unique_ptr<AccessControl> access_;
  std::shared_ptr<TlsIdentity> tls_;
  std::shared_ptr<TlsIdentity> worker_tls_;
  std::shared_ptr<grpc::ServerCredentials> credentials_;
  std::shared_ptr<grpc::ServerCredentials> worker_credentials_;
  // Last, so that it goes first.
  FileWatcher watcher_;
};

}  // namespace pot

#endif  // POT_SERVER_SERVER_SECURITY_H_
