#ifndef POT_SERVER_SERVING_MODEL_EVENT_H_
#define POT_SERVER_SERVING_MODEL_EVENT_H_

#include <functional>

#include "absl/time/time.h"
#include "server/serving/model_version.h"

namespace pot {

struct ModelEvent {
  enum class Kind { kSnapshot, kSnapshotDone, kChanged, kDeleted };
  Kind kind = Kind::kChanged;
  // Empty with kSnapshotDone; only name and version with kDeleted.
  ModelVersionInfo version;
  absl::Time time;
};

using ModelObserver = std::function<void(const ModelEvent&)>;

}  // namespace pot

#endif  // POT_SERVER_SERVING_MODEL_EVENT_H_
