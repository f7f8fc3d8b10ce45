#include "server/observability/metrics_exporter.h"

#include <prometheus/client_metric.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>

#include <exception>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace pot {
namespace {

// Scrapes at a time, of which there is one every some seconds.
constexpr char kThreads[] = "3";
constexpr char kRequestTimeoutMs[] = "10000";

prometheus::MetricType TypeOf(MetricType type) {
  switch (type) {
    case MetricType::kCounter:
      return prometheus::MetricType::Counter;
    case MetricType::kHistogram:
      return prometheus::MetricType::Histogram;
    case MetricType::kGauge:
      break;
  }
  return prometheus::MetricType::Gauge;
}

prometheus::ClientMetric::Histogram Convert(const HistogramCounts& counts) {
  prometheus::ClientMetric::Histogram histogram;
  for (size_t i = 0; i < counts.counts.size(); ++i) {
    histogram.sample_count += counts.counts[i];
    histogram.bucket.push_back({histogram.sample_count,
                                i < counts.bounds.size()
                                    ? counts.bounds[i]
                                    : std::numeric_limits<double>::infinity()});
  }
  histogram.sample_sum = counts.sum;
  return histogram;
}

prometheus::MetricFamily Convert(MetricFamily family) {
  prometheus::MetricFamily converted;
  converted.name = std::move(family.name);
  converted.help = std::move(family.help);
  converted.type = TypeOf(family.type);
  for (MetricSample& sample : family.samples) {
    prometheus::ClientMetric metric;
    for (auto& [name, value] : sample.labels) {
      metric.label.push_back({std::move(name), std::move(value)});
    }
    metric.counter.value = metric.gauge.value = sample.value;
    if (family.type == MetricType::kHistogram) {
      metric.histogram = Convert(sample.counts);
    }
    converted.metric.push_back(std::move(metric));
  }
  return converted;
}

class Collectable final : public prometheus::Collectable {
 public:
  explicit Collectable(MetricsExporter::Collector collect)
      : collect_(std::move(collect)) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    std::vector<prometheus::MetricFamily> families;
    for (MetricFamily& family : collect_()) {
      // A name without series has no value to show.
      if (!family.samples.empty()) {
        families.push_back(Convert(std::move(family)));
      }
    }
    return families;
  }

 private:
  const MetricsExporter::Collector collect_;
};

class Exporter final : public MetricsExporter {
 public:
  // Throws.
  Exporter(const std::string& address, Collector collect)
      : collectable_(std::make_shared<Collectable>(std::move(collect))),
        exposer_(std::vector<std::string>{
            "listening_ports", address, "num_threads", kThreads,
            "request_timeout_ms", kRequestTimeoutMs, "enable_keep_alive", "no",
            "enable_directory_listing", "no"}) {
    exposer_.RegisterCollectable(collectable_);
  }

  int port() const override {
    const std::vector<int> ports = exposer_.GetListeningPorts();
    return ports.empty() ? 0 : ports.front();
  }

 private:
  const std::shared_ptr<Collectable> collectable_;
  // Goes first: joins its threads.
  prometheus::Exposer exposer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsExporter>> MetricsExporter::Start(
    const std::string& address, Collector collect) {
  constexpr char kLocalhost[] = "localhost:";
  std::string numeric = address;
  if (absl::StartsWithIgnoreCase(numeric, kLocalhost)) {
    numeric =
        absl::StrCat("127.0.0.1:", numeric.substr(sizeof(kLocalhost) - 1));
  }
  std::string problem;
  try {
    auto exporter = std::make_unique<Exporter>(numeric, std::move(collect));
    if (exporter->port() != 0) return exporter;
    problem = "no port was opened";
  } catch (const std::exception& error) {
    problem = error.what();
  }
  return absl::UnavailableError(
      absl::StrCat("cannot serve metrics on ", address, " (", problem,
                   "); is the address one of this host's, and the port not in "
                   "use?"));
}

}  // namespace pot
