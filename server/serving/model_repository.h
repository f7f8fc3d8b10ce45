// The versions of all models: on disk through VersionStore, in memory as
// pinned LoadedModels, and by name through aliases.
#ifndef POT_SERVER_SERVING_MODEL_REPOSITORY_H_
#define POT_SERVER_SERVING_MODEL_REPOSITORY_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/checkpoint/version_store.h"
#include "engine/gpt2/model_weights.h"
#include "engine/gpt2/quantize_model.h"
#include "engine/inference_engine.h"
#include "server/serving/alias_store.h"
#include "server/serving/model_version.h"

namespace pot {

struct ModelRepositoryOptions {
  std::string root;
  // Directories that Import() may read lie below this; empty: none may.
  std::string import_root;
  LoadOptions load;
  // Weights in memory at the same time; 0: no limit.
  int64_t max_resident_bytes = 0;
};

struct ModelEvent {
  enum class Kind { kSnapshot, kSnapshotDone, kChanged, kDeleted };
  Kind kind = Kind::kChanged;
  ModelVersionInfo version;
  absl::Time time;
};

struct VersionDiff {
  struct Tensor {
    std::string name;
    std::vector<int64_t> shape;
    std::string left_format, left_granularity;
    std::string right_format, right_granularity;
    std::optional<int64_t> changed_codes;
    double relative_squared_error = 0;
    double max_absolute_difference = 0;
  };
  ModelVersionInfo left, right;
  std::vector<Tensor> tensors;
};

// Thread-safe. Loading runs on the calling thread and never holds a lock that
// Acquire() needs: requests are served from the old version meanwhile, and a
// new one becomes visible by one pointer swap.
class ModelRepository {
 public:
  static absl::StatusOr<std::unique_ptr<ModelRepository>> Open(
      ModelRepositoryOptions options);
  ~ModelRepository();

  // The AVAILABLE version that `selector` names, pinned. Errors as
  // proto/pot/v1/common.proto's ModelRef says, with details.
  absl::StatusOr<std::shared_ptr<const LoadedModel>> Acquire(
      const ModelSelector& selector);

  absl::StatusOr<std::vector<ModelVersionInfo>> List(absl::string_view name);
  // Any state; `name` alone falls back to the highest version.
  absl::StatusOr<ModelVersionInfo> Get(const ModelSelector& selector);

  // Calls `observer` with the present state and then with every change, in
  // order, until the returned handle is destroyed. Must not block or call back
  // into the repository.
  class Subscription;
  std::shared_ptr<Subscription> Watch(
      absl::string_view name, std::function<void(const ModelEvent&)> observer);

  // Verifies, loads and warms on this thread, or waits for whoever is doing so,
  // until `deadline` (the loading goes on after it). OK at once when AVAILABLE.
  absl::StatusOr<ModelVersionInfo> Load(const ModelSelector& selector,
                                        absl::Time deadline);
  // Refuses new requests, waits until `deadline` for running ones to drop their
  // pins, frees the memory.
  absl::StatusOr<ModelVersionInfo> Unload(const ModelSelector& selector,
                                          absl::Time deadline);
  // Loads, for every model, what its aliases name, or else its newest version;
  // errors are kept in the versions' state_message. For start-up.
  void LoadServed();

  absl::StatusOr<AliasChange> SetAlias(AliasChange change,
                                       std::optional<int64_t> expected);
  absl::StatusOr<AliasChange> RollbackAlias(AliasChange change,
                                            std::optional<int64_t> expected,
                                            absl::Time deadline);
  absl::StatusOr<std::vector<AliasChange>> AliasHistory(absl::string_view name,
                                                        absl::string_view alias,
                                                        int64_t limit);

  // A new version of what was staged (RegisterCheckpoint): manifest verified,
  // loadable headers, then renamed. `version` 0: the next number.
  absl::StatusOr<StagedVersion> Stage(absl::string_view name);
  absl::StatusOr<ModelVersionInfo> Register(StagedVersion staged,
                                            absl::string_view name,
                                            int64_t version);

  // `directory` is relative to the import root. No options: float weights are
  // kept. `progress` may be called from this thread; false cancels.
  absl::StatusOr<ModelVersionInfo> Import(
      absl::string_view name, const std::string& directory,
      const std::optional<QuantizeModelOptions>& options,
      const std::function<bool(int64_t, int64_t)>& progress);

  absl::Status Delete(absl::string_view name, int64_t version);

  absl::StatusOr<VersionDiff> Diff(const ModelSelector& left,
                                   const ModelSelector& right);

 private:
  class Impl;
  explicit ModelRepository(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_MODEL_REPOSITORY_H_
