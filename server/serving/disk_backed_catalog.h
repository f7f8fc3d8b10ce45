// The versions in memory and the disk behind them: what is below the root, in
// the catalog and in the alias store, kept equal.
#ifndef POT_SERVER_SERVING_DISK_BACKED_CATALOG_H_
#define POT_SERVER_SERVING_DISK_BACKED_CATALOG_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "engine/checkpoint/version_store.h"
#include "server/serving/alias_store.h"
#include "server/serving/model_catalog.h"
#include "server/serving/model_repository_options.h"
#include "server/serving/model_version.h"
#include "server/serving/relative_paths.h"

namespace pot {

// Thread-safe. Locks are taken in the order of their declaration, the catalog's
// own last. What a member does and its errors: ModelRepository.
class DiskBackedCatalog {
 public:
  DiskBackedCatalog(ModelRepositoryOptions options,
                    std::unique_ptr<VersionStore> store)
      : options_(std::move(options)),
        store_(std::move(store)),
        relative_(store_->root(), options_.import_root),
        aliases_(store_->root()),
        catalog_(std::make_shared<ModelCatalog>(options_.max_resident_bytes)) {}
  ~DiskBackedCatalog() { catalog_->DropAll(); }

  const ModelRepositoryOptions& options() const { return options_; }
  VersionStore* store() { return store_.get(); }
  const RelativePaths& relative() const { return relative_; }
  ModelCatalog* catalog() { return catalog_.get(); }
  const std::shared_ptr<ModelCatalog>& shared_catalog() { return catalog_; }

  // Makes the catalog know what is on disk now.
  absl::Status Refresh(absl::string_view name);
  absl::Status RefreshAll();

  absl::StatusOr<ModelVersionInfo> Find(const ModelSelector& selector);
  absl::StatusOr<ModelVersionInfo> Load(const ModelSelector& selector,
                                        absl::Time deadline);
  void LoadServed(const std::string& name, const std::function<bool()>& stop);
  absl::StatusOr<AliasChange> ApplyAlias(AliasChange change,
                                         std::optional<int64_t> expected);
  absl::StatusOr<int64_t> RollbackTarget(const AliasChange& change,
                                         int64_t* present);
  absl::StatusOr<std::vector<AliasChange>> History(absl::string_view name,
                                                   absl::string_view alias,
                                                   int64_t limit);
  absl::StatusOr<ModelVersionInfo> Commit(StagedVersion staged,
                                          absl::string_view name,
                                          int64_t version);
  absl::Status Delete(absl::string_view name, int64_t version);

 private:
  absl::Status RefreshLocked(absl::string_view name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(disk_mutex_);
  absl::StatusOr<ModelVersionInfo> LoadVersion(const std::string& name,
                                               int64_t version,
                                               absl::Time deadline);

  const ModelRepositoryOptions options_;
  const std::unique_ptr<VersionStore> store_;
  const RelativePaths relative_;
  // Held while an alias moves, so that what was checked of its target holds.
  Mutex alias_mutex_;
  // Held while the catalog is made equal to the disk.
  Mutex disk_mutex_;
  AliasStore aliases_;
  const std::shared_ptr<ModelCatalog> catalog_;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_DISK_BACKED_CATALOG_H_
