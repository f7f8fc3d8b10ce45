// What metrics say of versions and aliases: pot_model_*.
#ifndef POT_SERVER_SERVING_VERSION_METRICS_H_
#define POT_SERVER_SERVING_VERSION_METRICS_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "engine/base/mutex.h"
#include "server/observability/metric_family.h"
#include "server/observability/serving_metrics.h"
#include "server/serving/model_event.h"
#include "server/serving/model_version.h"

namespace pot {

// Thread-safe.
class VersionMetrics {
 public:
  // Drops the series of versions that are unloaded from `serving`, which
  // outlives this.
  explicit VersionMetrics(ServingMetrics* serving) : serving_(serving) {}

  // An observer of ModelRepository::Watch("", ..), from the first snapshot on.
  void OnEvent(const ModelEvent& event);

  // `perplexities`: by digest, where one is known.
  void Collect(const std::map<std::string, double>& perplexities,
               MetricFamilies* families) const;

 private:
  struct Alias {
    int64_t version = 0;  // the last one that it named
    bool present = false;
    uint64_t moves = 0;
  };

  void NoteAliases(const ModelVersionInfo& info)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  ServingMetrics* const serving_;
  mutable Mutex mutex_;
  // Those that are in memory or on their way there, or failed.
  std::map<std::pair<std::string, int64_t>, ModelVersionInfo> versions_
      ABSL_GUARDED_BY(mutex_);
  // By model and name.
  std::map<std::pair<std::string, std::string>, Alias> aliases_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_VERSION_METRICS_H_
