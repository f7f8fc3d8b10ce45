#include "server/server_security.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "grpcpp/security/server_credentials.h"
#include "server/observability/log.h"
#include "server/rpc/tls_credentials.h"

namespace pot {
namespace {

// A certificate that ends sooner is worth a line in the log at every start and
// reload.
constexpr absl::Duration kExpiresSoon = absl::Hours(24 * 14);

TlsFiles FilesOf(const SecurityConfig& config) {
  return {config.tls_cert, config.tls_key, config.tls_client_ca};
}

TlsFiles WorkerFilesOf(const SecurityConfig& config) {
  return {config.tls_cert, config.tls_key, config.worker_client_ca,
          "worker-client-ca"};
}

void LogExpiry(const TlsFiles& files, const TlsMaterial& material) {
  const absl::Duration left = material.expires - absl::Now();
  if (left > kExpiresSoon) return;
  Log(left > absl::ZeroDuration() ? LogLevel::kWarning : LogLevel::kError,
      left > absl::ZeroDuration() ? "the certificate expires soon"
                                  : "the certificate has expired",
      {{"file", files.certificate},
       {"expires", absl::FormatTime(absl::RFC3339_sec, material.expires,
                                    absl::UTCTimeZone())}});
}

void AppendLines(const absl::Status& status, std::vector<std::string>* lines) {
  if (status.ok()) return;
  for (const absl::string_view line : absl::StrSplit(status.message(), '\n')) {
    if (std::find(lines->begin(), lines->end(), line) == lines->end()) {
      lines->emplace_back(line);
    }
  }
}

absl::Status Prefix(const absl::Status& status) {
  if (status.ok()) return status;
  return absl::InvalidArgumentError(
      absl::StrCat("--token-file: ", status.message()));
}

}  // namespace

absl::Status CheckSecurityFiles(const SecurityConfig& config) {
  std::vector<std::string> wrong;
  if (!config.token_file.empty()) {
    AppendLines(Prefix(ReadKeyFile(config.token_file).status()), &wrong);
  }
  if (config.tls()) {
    AppendLines(ReadTlsFiles(FilesOf(config)).status(), &wrong);
    AppendLines(ReadTlsFiles(WorkerFilesOf(config)).status(), &wrong);
  }
  if (wrong.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(wrong, "\n"));
}

absl::StatusOr<std::unique_ptr<ServerSecurity>> ServerSecurity::Open(
    const SecurityConfig& config) {
  std::unique_ptr<ServerSecurity> security(new ServerSecurity(config));
  POT_RETURN_IF_ERROR(security->Start());
  return security;
}

ServerSecurity::~ServerSecurity() = default;

absl::Status ServerSecurity::Start() {
  if (!config_.token_file.empty()) {
    // Before it is read: a change in between is not missed.
    watcher_.Watch({config_.token_file}, [this] { ReloadKeys(); });
    const auto keys = ReadKeyFile(config_.token_file);
    POT_RETURN_IF_ERROR(Prefix(keys.status()));
    access_ = std::make_unique<AccessControl>(*keys);
  }
  if (config_.tls()) {
    for (const bool worker : {false, true}) {
      const TlsFiles files = worker ? WorkerFilesOf(config_) : FilesOf(config_);
      std::shared_ptr<TlsIdentity>& identity = worker ? worker_tls_ : tls_;
      // As above; the identity is there when the watcher starts.
      WatchTls(files, worker);
      POT_ASSIGN_OR_RETURN(TlsMaterial material, ReadTlsFiles(files));
      if (!worker) LogExpiry(files, material);
      identity = std::make_shared<TlsIdentity>(std::move(material));
    }
  }
  credentials_ = tls_ == nullptr ? grpc::InsecureServerCredentials()
                                 : TlsIdentity::Credentials(tls_);
  worker_credentials_ = worker_tls_ == nullptr
                            ? grpc::InsecureServerCredentials()
                            : TlsIdentity::Credentials(worker_tls_);
  if (access_ != nullptr || tls_ != nullptr) {
    watcher_.Start(config_.reload_interval);
  }
  return absl::OkStatus();
}

void ServerSecurity::WatchTls(const TlsFiles& files, bool worker) {
  std::vector<std::string> paths = {files.certificate, files.key};
  if (!files.client_ca.empty()) paths.push_back(files.client_ca);
  watcher_.Watch(paths, [this, files, worker] {
    absl::StatusOr<TlsMaterial> material = ReadTlsFiles(files);
    if (!material.ok()) {
      Log(LogLevel::kError, "the new certificate is broken; the old one stays",
          {{"error", std::string(material.status().message())}});
      return;
    }
    if (!worker) {
      LogExpiry(files, *material);
      Log(LogLevel::kInfo, "certificate reloaded",
          {{"file", files.certificate}});
    }
    (worker ? worker_tls_ : tls_)->Replace(*std::move(material));
  });
}

void ServerSecurity::ReloadKeys() {
  const auto keys = ReadKeyFile(config_.token_file);
  if (!keys.ok()) {
    Log(LogLevel::kError, "the new key file is broken; the old keys stay",
        {{"file", config_.token_file},
         {"error", std::string(keys.status().message())}});
    return;
  }
  access_->SetKeys(*keys);
  Log(LogLevel::kInfo, "keys reloaded",
      {{"file", config_.token_file}, {"keys", absl::StrCat(keys->size())}});
}

}  // namespace pot
