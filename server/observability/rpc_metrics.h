// Calls counted, by method and code: grpc_server_*.
#ifndef POT_SERVER_OBSERVABILITY_RPC_METRICS_H_
#define POT_SERVER_OBSERVABILITY_RPC_METRICS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "server/observability/histogram.h"
#include "server/observability/metric_family.h"

namespace pot {

struct RpcMethod {
  std::string type;     // "unary", "server_stream", ..
  std::string service;  // "pot.v1.InferenceService"
  std::string method;   // "Generate", unique among all services
};

// Thread-safe. Its parts outlive their calls.
class RpcMetrics {
 public:
  // Of one method.
  class Method {
   public:
    explicit Method(RpcMethod description)
        : description_(std::move(description)) {}

    const RpcMethod& description() const { return description_; }
    void Started() { started_.fetch_add(1, std::memory_order_relaxed); }
    void Handled(absl::StatusCode code, absl::Duration took);

   private:
    friend class RpcMetrics;
    // gRPC has 0 to 16; the last counts what is none.
    static constexpr size_t kCodes = 18;

    const RpcMethod description_;
    std::atomic<uint64_t> started_ = 0;
    std::array<std::atomic<uint64_t>, kCodes> handled_ = {};
    Histogram seconds_{kCallSeconds};
  };

  explicit RpcMetrics(const std::vector<RpcMethod>& methods);

  // Null for a method that the constructor was not told of.
  Method* Find(absl::string_view method) const;

  // A call that was refused, for a reason of a set that is known when compiled.
  void CountRejection(const std::string& reason);

  void Collect(MetricFamilies* families) const;

 private:
  std::map<std::string, std::unique_ptr<Method>, std::less<>> methods_;
  mutable Mutex mutex_;
  std::map<std::string, uint64_t> rejections_ ABSL_GUARDED_BY(mutex_);
};

// "OK", "INVALID_ARGUMENT", ..
std::string StatusCodeName(absl::StatusCode code);

}  // namespace pot

#endif  // POT_SERVER_OBSERVABILITY_RPC_METRICS_H_
