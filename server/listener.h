#ifndef POT_SERVER_LISTENER_H_
#define POT_SERVER_LISTENER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace grpc {
class CallbackGenericService;
class Server;
class ServerCredentials;
class Service;
}  // namespace grpc

namespace pot {

// What one client may do to a port.
struct ConnectionLimits {
  int64_t max_message_size = 4 << 20;   // bytes
  int64_t max_metadata_size = 8 << 10;  // bytes
  int64_t max_concurrent_streams = 256;
  // A silent connection is pinged, and closed when nothing comes back.
  absl::Duration keepalive_time = absl::Minutes(1);
  absl::Duration keepalive_timeout = absl::Seconds(20);
  // Clients that ping more often are thrown out.
  absl::Duration min_ping_interval = absl::Seconds(10);
  // Of TCP, TLS and HTTP/2 together.
  absl::Duration handshake_timeout = absl::Seconds(20);
  // 0: no limit.
  absl::Duration max_connection_idle;
  // When a connection is asked to go, and how long its calls may then last;
  // 0: no limit.
  absl::Duration max_connection_age;
  absl::Duration max_connection_age_grace;
};

struct ListenOptions {
  std::string setting;  // "listen", for errors
  std::string address;
  std::shared_ptr<grpc::ServerCredentials> credentials;
  // All outlive the server.
  std::vector<grpc::Service*> services;
  grpc::CallbackGenericService* unknown_methods = nullptr;
  bool reflection = false;
  ConnectionLimits limits;
};

// Opens a port. `port` becomes its number, 0 for a unix socket. UNAVAILABLE,
// naming the setting.
absl::StatusOr<std::unique_ptr<grpc::Server>> Listen(
    const ListenOptions& options, int* port);

}  // namespace pot

#endif  // POT_SERVER_LISTENER_H_
