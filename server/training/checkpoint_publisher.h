// A job's checkpoint becomes a version that serves.
#ifndef POT_SERVER_TRAINING_CHECKPOINT_PUBLISHER_H_
#define POT_SERVER_TRAINING_CHECKPOINT_PUBLISHER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "engine/loaded_model.h"
#include "server/serving/model_repository.h"
#include "server/training/training_metrics.h"

namespace pot {

// What to publish, as what.
struct PublishOrder {
  std::string job_id;
  // A whole model directory with its manifest; it stays as it is.
  std::string checkpoint_directory;
  // ModelRef.name of the new version; the model is made when it is new.
  std::string model;
  // Moves to the new version when it is AVAILABLE. Empty: none does.
  std::string alias;
  // For the alias history: who, and why besides "qat job <id>".
  std::string actor;
  std::string comment;
};

struct Publication {
  ModelIdentity identity;
  // Unless the order has no alias: its move to this version by this job, now or
  // in an earlier call.
  std::optional<AliasChange> alias_change;
};

// The comment of a job's alias changes: "qat job <id>", then ": <comment>" if
// there is one. This is how a move is found again after a restart.
std::string PublishComment(const std::string& job_id,
                           const std::string& comment);

// The move of `alias` to `version` that a job made, whatever was done to the
// alias since; nothing when it made none.
absl::StatusOr<std::optional<AliasChange>> FindPublication(
    ModelRepository* repository, const std::string& model,
    const std::string& alias, int64_t version, const std::string& job_id);

// Thread-safe; one publication at a time, the others wait.
class CheckpointPublisher {
 public:
  explicit CheckpointPublisher(ModelRepository* repository,
                               std::function<absl::Time()> now = &absl::Now)
      : repository_(repository), now_(std::move(now)) {}

  // What became of calls of Publish(), and of candidates that never came to it.
  PublishCounters& counters() { return counters_; }

  // Registers the checkpoint, loads and warms it beside what is serving, and
  // moves the alias from where it was when this began. Takes as long as that
  // takes. Repeating a call, whole or after a crash anywhere in it, does what
  // is missing: the same files are the same version, and an alias that the job
  // has moved once is not moved again, whoever moved it on or back since.
  //
  // ABORTED (ALIAS_MISMATCH), with the version registered and AVAILABLE, when
  // somebody else moved the alias meanwhile. Else the errors of
  // ModelRepository::Register and Load: DATA_LOSS for a checkpoint that is not
  // what its manifest says, RESOURCE_EXHAUSTED (MEMORY_BUDGET, DISK_BUDGET).
  absl::StatusOr<Publication> Publish(const PublishOrder& order);

 private:
  absl::StatusOr<Publication> DoPublish(const PublishOrder& order);
  absl::StatusOr<ModelVersionInfo> Register(const PublishOrder& order);
  absl::StatusOr<std::optional<AliasChange>> MoveAlias(
      const PublishOrder& order, int64_t version, int64_t previous);

  ModelRepository* const repository_;
  const std::function<absl::Time()> now_;
  Mutex publishing_;
  PublishCounters counters_;
};

}  // namespace pot

#endif  // POT_SERVER_TRAINING_CHECKPOINT_PUBLISHER_H_
