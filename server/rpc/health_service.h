// The standard health service. gRPC's own answers everybody about every name;
// this one asks for a token before it says which models there are.
#ifndef POT_SERVER_RPC_HEALTH_SERVICE_H_
#define POT_SERVER_RPC_HEALTH_SERVICE_H_

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/health_check_service_interface.h"
#include "server/security/access_control.h"

namespace pot {

// Told when the status of a name may have changed.
class HealthWatcher {
 public:
  virtual ~HealthWatcher() = default;
  // From any thread.
  virtual void OnChange() = 0;
};

// What is serving, for any number of health services. Thread-safe.
class HealthStatuses final : public grpc::HealthCheckServiceInterface {
 public:
  static constexpr size_t kMaxNames = 4096;

  void SetServingStatus(const std::string& service, bool serving) override;
  void SetServingStatus(bool serving) override;
  // All NOT_SERVING, for ever.
  void Shutdown() override;

  // Nothing: the name is not known.
  std::optional<bool> Get(const std::string& service) const;
  // Tells `watcher` of every change while it lives. At most kMaxNames names
  // that nobody set are watched; false beyond that.
  bool Watch(const std::string& service,
             const std::shared_ptr<HealthWatcher>& watcher);

 private:
  struct Entry {
    std::optional<bool> serving;
    std::vector<std::weak_ptr<HealthWatcher>> watchers;
  };
  // Who is to be told once the lock is free.
  using Alive = std::vector<std::shared_ptr<HealthWatcher>>;

  static void Collect(Entry* entry, Alive* watchers);

  mutable Mutex mutex_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  bool shut_down_ ABSL_GUARDED_BY(mutex_) = false;
};

// grpc.health.v1.Health (proto/grpc/health/v1/health.proto). Its calls are not
// logged and hold up no drain. The name "" is for everybody, all others need
// any valid token where there are keys.
class HealthService final
    : public ::grpc::health::v1::Health::WithCallbackMethod_Check<
          ::grpc::health::v1::Health::WithCallbackMethod_Watch<
              ::grpc::health::v1::Health::Service>> {
 public:
  using Request = ::grpc::health::v1::HealthCheckRequest;
  using Response = ::grpc::health::v1::HealthCheckResponse;

  // Both outlive the gRPC server; `access` null: no keys.
  HealthService(HealthStatuses* statuses, const AccessControl* access)
      : statuses_(statuses), access_(access) {}

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* rpc,
                                  const Request* request,
                                  Response* response) override;
  grpc::ServerWriteReactor<Response>* Watch(grpc::CallbackServerContext* rpc,
                                            const Request* request) override;

 private:
  absl::Status Authorize(const grpc::CallbackServerContext& rpc,
                         const std::string& service) const;

  HealthStatuses* const statuses_;
  const AccessControl* const access_;
};

}  // namespace pot

#endif  // POT_SERVER_RPC_HEALTH_SERVICE_H_
