// What a scrape of the metrics consists of, whoever reads it.
#ifndef POT_SERVER_OBSERVABILITY_METRIC_FAMILY_H_
#define POT_SERVER_OBSERVABILITY_METRIC_FAMILY_H_

#include <string>
#include <utility>
#include <vector>

#include "server/observability/histogram.h"

namespace pot {

// Name and value. Values that are empty are as good as no label.
using MetricLabels = std::vector<std::pair<std::string, std::string>>;

enum class MetricType { kCounter, kGauge, kHistogram };

struct MetricSample {
  MetricLabels labels;
  double value = 0;          // counters and gauges
  HistogramCounts counts{};  // histograms
};

// All series of one name, which ends in "_total" if and only if it is a
// counter; in seconds, bytes or ratios.
struct MetricFamily {
  std::string name;
  std::string help;
  MetricType type = MetricType::kGauge;
  std::vector<MetricSample> samples;

  void Add(MetricLabels labels, double value) {
    samples.push_back({std::move(labels), value, {}});
  }
  void Add(MetricLabels labels, HistogramCounts counts) {
    samples.push_back({std::move(labels), 0, std::move(counts)});
  }
};
using MetricFamilies = std::vector<MetricFamily>;

// A family of one series without labels.
inline MetricFamily SingleMetric(std::string name, std::string help,
                                 MetricType type, double value) {
  MetricFamily family{std::move(name), std::move(help), type, {}};
  family.Add({}, value);
  return family;
}

}  // namespace pot

#endif  // POT_SERVER_OBSERVABILITY_METRIC_FAMILY_H_
