// /metrics over HTTP. The only user of prometheus-cpp.
#ifndef POT_SERVER_OBSERVABILITY_METRICS_EXPORTER_H_
#define POT_SERVER_OBSERVABILITY_METRICS_EXPORTER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/observability/metric_family.h"

namespace pot {

// Serves until it is destroyed. A scrape that takes longer than 10 s to send
// its request is cut; more than a few at a time wait.
class MetricsExporter {
 public:
  // Called for each scrape, on threads of the exporter, several at a time.
  using Collector = std::function<MetricFamilies()>;

  // `address`: HOST:PORT or [V6]:PORT, the host a number or "localhost", which
  // is 127.0.0.1; port 0 takes a free one. UNAVAILABLE when it cannot listen
  // there.
  static absl::StatusOr<std::unique_ptr<MetricsExporter>> Start(
      const std::string& address, Collector collect);

  virtual ~MetricsExporter() = default;

  virtual int port() const = 0;
};

}  // namespace pot

#endif  // POT_SERVER_OBSERVABILITY_METRICS_EXPORTER_H_
