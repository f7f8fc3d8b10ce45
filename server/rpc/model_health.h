#ifndef POT_SERVER_RPC_MODEL_HEALTH_H_
#define POT_SERVER_RPC_MODEL_HEALTH_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "grpcpp/health_check_service_interface.h"
#include "server/serving/model_repository.h"

namespace pot {

// The health service's name of a model, "pot.model.<name>": SERVING while a
// version of it is AVAILABLE.
std::string ModelHealthName(const std::string& model);

// Keeps those names up to date from the repository's events, which come one at
// a time.
class ModelHealth {
 public:
  // `health` must outlive this.
  explicit ModelHealth(grpc::HealthCheckServiceInterface* health)
      : health_(health) {}

  void OnEvent(const ModelEvent& event);

 private:
  grpc::HealthCheckServiceInterface* const health_;
  std::map<std::string, std::set<int64_t>> available_;
};

}  // namespace pot

#endif  // POT_SERVER_RPC_MODEL_HEALTH_H_
