#ifndef POT_SERVER_SERVING_HUB_IMPORTER_H_
#define POT_SERVER_SERVING_HUB_IMPORTER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/hub/hub_id.h"
#include "engine/hub/hub_settings.h"
#include "server/serving/relative_paths.h"

namespace pot {

// Downloads of the server itself: over https, from hosts that its operator
// listed and no others, redirects included. Thread-safe.
class HubImporter {
 public:
  // The hub, the server's token and the cache are those of the environment
  // (engine/hub/hub_settings.h), but that the cache is `repository`/.hub unless
  // HF_HUB_CACHE or HF_HOME say otherwise. INVALID_ARGUMENT when `hosts` does
  // not allow the hub itself. `reserve` is asked whether so many bytes fit.
  static absl::StatusOr<std::unique_ptr<HubImporter>> Open(
      const HostList& hosts, const std::string& repository,
      const GetEnvironmentVariable& environment,
      std::function<absl::Status(int64_t)> reserve);

  // The directory of the model. `progress(done, total)` in bytes, total 0
  // while unknown; false ends it as CANCELLED. With details: UNAVAILABLE
  // (HUB_UNREACHABLE), NOT_FOUND (SOURCE_NOT_FOUND), FAILED_PRECONDITION
  // (HUB_DENIED), INVALID_ARGUMENT (UNSUPPORTED_MODEL), DATA_LOSS
  // (CHECKSUM_MISMATCH), RESOURCE_EXHAUSTED (DISK_BUDGET).
  absl::StatusOr<std::string> Download(
      const HubId& id,
      const std::function<bool(int64_t, int64_t)>& progress) const;

 private:
  HubImporter(HubSettings settings,
              std::function<absl::Status(int64_t)> reserve)
      : settings_(std::move(settings)),
        relative_(settings_.cache, ""),
        reserve_(std::move(reserve)) {}

  const HubSettings settings_;
  const RelativePaths relative_;
  const std::function<absl::Status(int64_t)> reserve_;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_HUB_IMPORTER_H_
