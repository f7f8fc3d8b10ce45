#include "server/observability/rpc_metrics.h"

#include <algorithm>
#include <utility>

namespace pot {
namespace {

// There from the start, so that a rate of them is never missing.
constexpr const char* kReasons[] = {"QUEUE_FULL", "QUEUED_TOKENS", "KV_MEMORY",
                                    "DRAINING", "DEADLINE_INFEASIBLE"};
// A bound that no set of reasons reaches.
constexpr size_t kMaxReasons = 256;

}  // namespace

std::string StatusCodeName(absl::StatusCode code) {
  const std::string name = absl::StatusCodeToString(code);
  return name.empty() ? "UNKNOWN" : name;
}

void RpcMetrics::Method::Handled(absl::StatusCode code, absl::Duration took) {
  const size_t index = std::min(static_cast<size_t>(code), kCodes - 1);
  handled_[index].fetch_add(1, std::memory_order_relaxed);
  seconds_.Observe(took);
}

RpcMetrics::RpcMetrics(const std::vector<RpcMethod>& methods) {
  for (const RpcMethod& method : methods) {
    methods_.emplace(method.method, std::make_unique<Method>(method));
  }
  for (const char* reason : kReasons) rejections_[reason] = 0;
}

RpcMetrics::Method* RpcMetrics::Find(absl::string_view method) const {
  const auto found = methods_.find(std::string(method));
  return found == methods_.end() ? nullptr : found->second.get();
}

void RpcMetrics::CountRejection(const std::string& reason) {
  MutexLock lock(&mutex_);
  if (rejections_.size() >= kMaxReasons && rejections_.count(reason) == 0) {
    return;
  }
  ++rejections_[reason];
}

void RpcMetrics::Collect(MetricFamilies* families) const {
  MetricFamily started{"grpc_server_started_total",
                       "Calls that reached their method.",
                       MetricType::kCounter,
                       {}};
  MetricFamily handled{"grpc_server_handled_total",
                       "Calls that ended, by code.",
                       MetricType::kCounter,
                       {}};
  MetricFamily seconds{"grpc_server_handling_seconds",
                       "From start to end of a call.",
                       MetricType::kHistogram,
                       {}};
  for (const auto& [name, method] : methods_) {
    const RpcMethod& description = method->description_;
    const MetricLabels labels = {{"grpc_type", description.type},
                                 {"grpc_service", description.service},
                                 {"grpc_method", description.method}};
    started.Add(labels, static_cast<double>(method->started_.load()));
    seconds.Add(labels, method->seconds_.Read());
    for (size_t code = 0; code < Method::kCodes; ++code) {
      const uint64_t count = method->handled_[code].load();
      if (count == 0 && code != 0) continue;
      MetricLabels with_code = labels;
      with_code.emplace_back(
          "grpc_code", StatusCodeName(static_cast<absl::StatusCode>(code)));
      handled.Add(std::move(with_code), static_cast<double>(count));
    }
  }
  families->push_back(std::move(started));
  families->push_back(std::move(handled));
  families->push_back(std::move(seconds));

  MetricFamily rejections{"pot_rejections_total",
                          "Calls refused for what they asked or when.",
                          MetricType::kCounter,
                          {}};
  MutexLock lock(&mutex_);
  for (const auto& [reason, count] : rejections_) {
    rejections.Add({{"reason", reason}}, static_cast<double>(count));
  }
  families->push_back(std::move(rejections));
}

}  // namespace pot
