// The versions of all models in memory: their life cycle, who watches it, who
// is served by which. Knows no disk.
#ifndef POT_SERVER_SERVING_MODEL_CATALOG_H_
#define POT_SERVER_SERVING_MODEL_CATALOG_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "engine/loaded_model.h"
#include "server/serving/model_event.h"
#include "server/serving/model_version.h"
#include "server/serving/version_description.h"

namespace pot {

// Thread-safe; every method takes one lock for as long as a look-up takes.
// Weights are never freed under it: dropping the last pin of a model takes it.
class ModelCatalog : public std::enable_shared_from_this<ModelCatalog> {
 public:
  // 0: no limit.
  explicit ModelCatalog(int64_t max_resident_bytes)
      : max_resident_bytes_(max_resident_bytes) {}

  // Looking up. Errors and rules are those of ModelRef (common.proto).

  absl::StatusOr<std::shared_ptr<const LoadedModel>> Acquire(
      const ModelSelector& selector) const;
  // Any state; `name` alone falls back to the highest version.
  absl::StatusOr<ModelVersionInfo> Find(const ModelSelector& selector) const;
  // By name and number; of all models when `name` is empty.
  std::vector<ModelVersionInfo> List(absl::string_view name) const;

  // What is on disk.

  bool Contains(absl::string_view name, int64_t version) const;
  // Adds a version that Contains() not: REGISTERED, or FAILED with an error for
  // a description.
  void Add(const std::string& name, int64_t version,
           const absl::StatusOr<VersionDescription>& description);
  // FAILED_PRECONDITION (VERSION_LOADED) unless nothing of it is in memory.
  absl::Status Remove(absl::string_view name, int64_t version);
  // An error is what resolving an alias of the model answers.
  void SetAliases(const std::string& name,
                  absl::StatusOr<std::map<std::string, int64_t>> aliases);

  // The life cycle. A load is BeginLoad(), which makes its caller the loader,
  // Enter() for LOADING and WARMING, and EndLoad().

  enum class LoadStart { kBegun, kAvailable, kOnItsWay };
  // kBegun: the version is VERIFYING and its memory reserved.
  // RESOURCE_EXHAUSTED (MEMORY_BUDGET), and nothing changed, when it would not
  // fit; UNAVAILABLE (DRAINING) while it is being unloaded.
  absl::StatusOr<LoadStart> BeginLoad(absl::string_view name, int64_t version);
  void Enter(absl::string_view name, int64_t version, ModelVersionState state);
  // AVAILABLE, or FAILED with `description` or what there is of it.
  absl::StatusOr<ModelVersionInfo> EndLoad(
      absl::string_view name, int64_t version, absl::Duration took,
      const VersionDescription* description,
      absl::StatusOr<std::shared_ptr<const LoadedModel>> model);
  // Waits while someone else loads it; then that load's result.
  // DEADLINE_EXCEEDED (DEADLINE_PASSED) when it goes on at `deadline`.
  absl::StatusOr<ModelVersionInfo> WaitForLoad(absl::string_view name,
                                               int64_t version,
                                               absl::Time deadline);

  // Takes it out of service, and waits until its last pin is dropped. OK for a
  // version that is not loaded. DEADLINE_EXCEEDED when pins remain: it stays
  // UNLOADING and becomes UNLOADED with the last of them.
  absl::StatusOr<ModelVersionInfo> Unload(absl::string_view name,
                                          int64_t version, absl::Time deadline);

  // Observers are called under the lock, in the order of the changes.
  int64_t Watch(absl::string_view name, ModelObserver observer);
  void Unwatch(int64_t watch);

  // Drops the catalog's own pins.
  void DropAll();

 private:
  struct Entry {
    // Aliases are filled in when it is copied.
    ModelVersionInfo info;
    int64_t min_resident_bytes = 0;
    // Reserved of the budget: before AVAILABLE an estimate.
    int64_t reserved_bytes = 0;
    absl::Status error;                        // of the last load
    std::shared_ptr<const LoadedModel> model;  // while AVAILABLE
  };
  struct Model {
    std::map<int64_t, Entry> versions;
    absl::StatusOr<std::map<std::string, int64_t>> aliases =
        std::map<std::string, int64_t>();
  };
  struct Watcher {
    std::string name;
    ModelObserver observer;
  };

  // The only place that changes a state.
  void TransitionTo(Entry* entry, ModelVersionState state)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Publish(const Entry& entry, ModelEvent::Kind kind) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ModelVersionInfo Info(const Entry& entry) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<const Model*> FindModel(absl::string_view name) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Null when there is none.
  Entry* FindEntry(absl::string_view name, int64_t version)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Entry*> GetEntry(absl::string_view name, int64_t version)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What the selector names, whatever its state. Where several would do, the
  // highest that is AVAILABLE, else, if `loading_first`, that is on its way,
  // else of all.
  absl::StatusOr<const Entry*> Resolve(const ModelSelector& selector,
                                       bool loading_first) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckBudget(const Entry& entry, int64_t wanted) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A pin that reports when the last copy of it is dropped.
  std::shared_ptr<const LoadedModel> Pin(
      std::shared_ptr<const LoadedModel> model);
  void OnFreed(const std::string& name, int64_t version);

  const int64_t max_resident_bytes_;
  mutable Mutex mutex_;
  CondVar changed_;  // some state
  std::map<std::string, Model, std::less<>> models_ ABSL_GUARDED_BY(mutex_);
  int64_t reserved_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<int64_t, Watcher> watchers_ ABSL_GUARDED_BY(mutex_);
  int64_t next_watch_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_MODEL_CATALOG_H_
