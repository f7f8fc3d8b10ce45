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
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/checkpoint/version_store.h"
#include "engine/gpt2/quantize_model.h"
#include "engine/loaded_model.h"
#include "server/serving/alias_store.h"
#include "server/serving/model_event.h"
#include "server/serving/model_repository_options.h"
#include "server/serving/model_version.h"
#include "server/serving/version_diff.h"

namespace pot {

class DiskBackedCatalog;

// Thread-safe. Loading runs on the calling thread and never holds a lock that
// Acquire() needs: requests are served from the old version meanwhile, and a
// new one becomes visible by one pointer swap.
//
// Versions that another process writes below the root are found by the next
// call that looks for them: List, Get, Load, Unload, Watch, Diff and changes of
// aliases list the model's directory first, and Acquire does so before it
// answers NOT_FOUND. Aliases are this repository's own: no other process may
// write them meanwhile.
//
// Errors have details (error_details.h) with the reasons of proto/README.md.
// Their messages, and state_message, name files relative to the root or to the
// import root.
class ModelRepository {
 public:
  static absl::StatusOr<std::unique_ptr<ModelRepository>> Open(
      ModelRepositoryOptions options);
  ~ModelRepository();

  // Absolute, without links.
  const std::string& root() const;

  // The AVAILABLE version that `selector` names, pinned. Errors as
  // proto/pot/v1/common.proto's ModelRef says, with details.
  absl::StatusOr<std::shared_ptr<const LoadedModel>> Acquire(
      const ModelSelector& selector);

  absl::StatusOr<std::vector<ModelVersionInfo>> List(absl::string_view name);
  // Any state; `name` alone falls back to the highest version.
  absl::StatusOr<ModelVersionInfo> Get(const ModelSelector& selector);

  // Calls `observer` with the present state (kSnapshot each, one kSnapshotDone)
  // and then with every change, in order, until the returned handle is
  // destroyed, after which it is not called again. Must not block, call back
  // into the repository or drop a pin. `name` need not exist; empty: all.
  class Subscription;
  std::shared_ptr<Subscription> Watch(
      absl::string_view name, std::function<void(const ModelEvent&)> observer);

  // Verifies, loads and warms on this thread, or waits for whoever is doing so,
  // until `deadline` (the loading goes on after it). OK at once when AVAILABLE.
  // DATA_LOSS for wrong or corrupt files, RESOURCE_EXHAUSTED (MEMORY_BUDGET)
  // beyond max_resident_bytes, UNAVAILABLE (DRAINING) while it is UNLOADING.
  absl::StatusOr<ModelVersionInfo> Load(const ModelSelector& selector,
                                        absl::Time deadline);
  // Refuses new requests, waits until `deadline` for running ones to drop their
  // pins, frees the memory. After DEADLINE_EXCEEDED it stays UNLOADING and is
  // freed with the last pin; a further call waits on. OK when it is not loaded.
  absl::StatusOr<ModelVersionInfo> Unload(const ModelSelector& selector,
                                          absl::Time deadline);
  // Loads, for every model, what its aliases name, or else its newest version
  // that loads; errors are kept in the versions' state_message. For start-up.
  // Asks `stop` before each version, from this thread, and returns on true.
  void LoadServed(const std::function<bool()>& stop = [] { return false; });

  // `change`: model, alias, to_version (0 removes), cause, actor, comment and
  // time; see AliasStore::Apply. The target must be AVAILABLE.
  absl::StatusOr<AliasChange> SetAlias(AliasChange change,
                                       std::optional<int64_t> expected);
  // Back to the version before the alias's last move, which is loaded first if
  // need be. FAILED_PRECONDITION (NO_PREVIOUS_VERSION) when there is none.
  absl::StatusOr<AliasChange> RollbackAlias(AliasChange change,
                                            std::optional<int64_t> expected,
                                            absl::Time deadline);
  absl::StatusOr<std::vector<AliasChange>> AliasHistory(absl::string_view name,
                                                        absl::string_view alias,
                                                        int64_t limit);

  // RESOURCE_EXHAUSTED (DISK_BUDGET) when the root's file system has no room
  // for `bytes` more.
  absl::Status CheckDiskSpace(int64_t bytes) const;

  // A new version of what was staged (RegisterCheckpoint): manifest verified,
  // loadable headers, then renamed. `version` 0: the next number. On any error
  // the staged directory is removed.
  absl::StatusOr<StagedVersion> Stage(absl::string_view name);
  absl::StatusOr<ModelVersionInfo> Register(StagedVersion staged,
                                            absl::string_view name,
                                            int64_t version);

  // `directory` is relative to the import root, or absolute and below it; no
  // link in it may lead out. No options: float weights are kept.
  // `progress(done, total)` in bytes of 32-bit floats is called from this
  // thread; when it returns false the import ends as CANCELLED, at the latest
  // before anything is published. FAILED_PRECONDITION (IMPORT_DISABLED, or
  // SOURCE_CHANGED when the weights were changed while they were read),
  // NOT_FOUND (SOURCE_NOT_FOUND), INVALID_ARGUMENT (INVALID_FIELD for the
  // directory, UNSUPPORTED_MODEL for what is in it).
  absl::StatusOr<ModelVersionInfo> Import(
      absl::string_view name, const std::string& directory,
      const std::optional<QuantizeModelOptions>& options,
      const std::function<bool(int64_t, int64_t)>& progress);

  // The same of a version of the format f32, in any state. FAILED_PRECONDITION
  // (BASE_NOT_FLOAT) for another, SOURCE_CHANGED when it is deleted meanwhile.
  absl::StatusOr<ModelVersionInfo> ImportVersion(
      absl::string_view name, const ModelSelector& base,
      const std::optional<QuantizeModelOptions>& options,
      const std::function<bool(int64_t, int64_t)>& progress);
  // The same of a directory that the server has made itself, anywhere.
  absl::StatusOr<ModelVersionInfo> ImportOwn(
      absl::string_view name, const std::string& directory,
      const std::optional<QuantizeModelOptions>& options,
      const std::function<bool(int64_t, int64_t)>& progress);

  // FAILED_PRECONDITION (VERSION_ALIASED, VERSION_LOADED).
  absl::Status Delete(absl::string_view name, int64_t version);

  // See server/serving/version_diff.h.
  absl::StatusOr<VersionDiff> Diff(const ModelSelector& left,
                                   const ModelSelector& right);

 private:
  explicit ModelRepository(std::unique_ptr<DiskBackedCatalog> versions);

  const std::unique_ptr<DiskBackedCatalog> versions_;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_MODEL_REPOSITORY_H_
