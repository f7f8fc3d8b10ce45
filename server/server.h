#ifndef POT_SERVER_SERVER_H_
#define POT_SERVER_SERVER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/server_config.h"

namespace pot {

// The parts of a server in the order in which they start: kernels, repository,
// engine, scheduler, services. Logging is started already.
class Server {
 public:
  // Listens, with every health status NOT_SERVING; calls for models are
  // UNAVAILABLE or NOT_FOUND until LoadModels(). Errors name the setting.
  static absl::StatusOr<std::unique_ptr<Server>> Start(
      const ServerConfig& config);

  // Cancels what is running.
  ~Server();

  // The port that was opened; 0 for a unix socket.
  int port() const;
  // That of metrics; 0 when there are none.
  int metrics_port() const;

  // Loads what is to be served, then turns the health status to SERVING,
  // unless the server drains, which also stops it before the next model. A
  // version that cannot be loaded is logged and
  // does not stop the others.
  void LoadModels();

  // NOT_SERVING first, then refuses new calls, then lets running ones end until
  // `deadline`; those that are left end with UNAVAILABLE (DRAINING). Then stops
  // listening. True when all ended in time.
  bool Drain(absl::Time deadline);

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace pot

#endif  // POT_SERVER_SERVER_H_
