#include "server/serving/model_repository.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"
#include "engine/gpt2/engine_version.h"
#include "server/serving/error_details.h"
#include "server/serving/model_catalog.h"
#include "server/serving/model_import.h"
#include "server/serving/model_loader.h"
#include "server/serving/relative_paths.h"
#include "server/serving/version_description.h"
#include "server/serving/version_errors.h"

namespace pot {
namespace {

using State = ModelVersionState;

absl::Status InvalidField(const absl::Status& status, absl::string_view field) {
  if (!absl::IsInvalidArgument(status)) return status;
  return WithDetails(status,
                     {.reason = "INVALID_FIELD", .field = std::string(field)});
}

absl::Status NoPrevious(absl::string_view message) {
  return WithDetails(absl::FailedPreconditionError(message),
                     {.reason = "NO_PREVIOUS_VERSION"});
}

// FAILED_PRECONDITION for every other state.
absl::Status CheckAvailable(const ModelVersionInfo& info) {
  if (info.state == State::kAvailable) return absl::OkStatus();
  const absl::Status status = NotServing(info);
  if (absl::IsFailedPrecondition(status)) return status;
  return WithDetails(
      absl::FailedPreconditionError(status.message()),
      {.reason = "VERSION_UNLOADED",
       .metadata = {
           {"value", std::string(ModelVersionStateName(info.state))}}});
}

}  // namespace

class ModelRepository::Subscription {
 public:
  Subscription(std::shared_ptr<ModelCatalog> catalog, int64_t watch)
      : catalog_(std::move(catalog)), watch_(watch) {}
  ~Subscription() { catalog_->Unwatch(watch_); }
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;

 private:
  const std::shared_ptr<ModelCatalog> catalog_;
  const int64_t watch_;
};

// The catalog, and the disk behind it. Locks are taken in the order of their
// declaration, the catalog's own last.
class ModelRepository::Impl {
 public:
  Impl(ModelRepositoryOptions options, std::unique_ptr<VersionStore> store)
      : options_(std::move(options)),
        store_(std::move(store)),
        relative_(store_->root(), options_.import_root),
        aliases_(store_->root()),
        catalog_(std::make_shared<ModelCatalog>(options_.max_resident_bytes)) {}
  ~Impl() { catalog_->DropAll(); }

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

absl::Status ModelRepository::Impl::RefreshLocked(absl::string_view name) {
  POT_ASSIGN_OR_RETURN(const std::vector<int64_t> versions,
                       store_->ListVersions(name));
  const std::set<int64_t> on_disk(versions.begin(), versions.end());
  const std::string model(name);
  bool added = false;
  for (const int64_t version : versions) {
    if (catalog_->Contains(name, version)) continue;
    catalog_->Add(model, version,
                  relative_.In(DescribeVersion(
                      store_->VersionDirectory(name, version), options_.load)));
    added = true;
  }
  for (const ModelVersionInfo& info : catalog_->List(name)) {
    if (on_disk.count(info.version) != 0) continue;
    // What is in memory stays until it is unloaded.
    catalog_->Remove(name, info.version).IgnoreError();
  }
  if (added) catalog_->SetAliases(model, relative_.In(aliases_.Aliases(name)));
  return absl::OkStatus();
}

absl::Status ModelRepository::Impl::Refresh(absl::string_view name) {
  // No model can have another name.
  if (!ValidateModelName(name).ok()) return absl::OkStatus();
  MutexLock lock(&disk_mutex_);
  return RefreshLocked(name);
}

absl::Status ModelRepository::Impl::RefreshAll() {
  MutexLock lock(&disk_mutex_);
  POT_ASSIGN_OR_RETURN(const std::vector<std::string> listed,
                       store_->ListModels());
  std::set<std::string> names(listed.begin(), listed.end());
  for (const ModelVersionInfo& info : catalog_->List("")) {
    names.insert(info.name);
  }
  for (const std::string& name : names) {
    POT_RETURN_IF_ERROR(RefreshLocked(name));
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelVersionInfo> ModelRepository::Impl::Find(
    const ModelSelector& selector) {
  POT_RETURN_IF_ERROR(Refresh(selector.name));
  return catalog_->Find(selector);
}

absl::StatusOr<ModelVersionInfo> ModelRepository::Impl::LoadVersion(
    const std::string& name, int64_t version, absl::Time deadline) {
  POT_ASSIGN_OR_RETURN(const ModelCatalog::LoadStart start,
                       catalog_->BeginLoad(name, version));
  if (start != ModelCatalog::LoadStart::kBegun) {
    return catalog_->WaitForLoad(name, version, deadline);
  }
  const absl::Time begin = absl::Now();
  const std::string directory = store_->VersionDirectory(name, version);
  absl::StatusOr<VerifiedModel> verified = VerifyAndLoad(
      directory, name, version, options_.load,
      [&](State state) { catalog_->Enter(name, version, state); });
  if (!verified.ok()) {
    return catalog_->EndLoad(name, version, absl::Now() - begin, nullptr,
                             relative_.In(verified.status()));
  }
  return catalog_->EndLoad(name, version, absl::Now() - begin,
                           &verified->description, std::move(verified->model));
}

absl::StatusOr<ModelVersionInfo> ModelRepository::Impl::Load(
    const ModelSelector& selector, absl::Time deadline) {
  POT_ASSIGN_OR_RETURN(const ModelVersionInfo info, Find(selector));
  return LoadVersion(info.name, info.version, deadline);
}

void ModelRepository::Impl::LoadServed(const std::string& name,
                                       const std::function<bool()>& stop) {
  const std::vector<ModelVersionInfo> infos = catalog_->List(name);
  const bool aliased =
      std::any_of(infos.begin(), infos.end(),
                  [](const auto& info) { return !info.aliases.empty(); });
  for (auto info = infos.rbegin(); info != infos.rend(); ++info) {
    if (aliased && info->aliases.empty()) continue;
    if (stop()) return;
    const bool loaded =
        LoadVersion(name, info->version, absl::InfiniteFuture()).ok();
    if (loaded && !aliased) return;
  }
}

absl::StatusOr<AliasChange> ModelRepository::Impl::ApplyAlias(
    AliasChange change, std::optional<int64_t> expected) {
  POT_RETURN_IF_ERROR(InvalidField(ValidateAlias(change.alias), "alias"));
  MutexLock alias_lock(&alias_mutex_);
  POT_RETURN_IF_ERROR(Find({.name = change.model}).status());
  POT_RETURN_IF_ERROR(
      aliases_.CheckExpected(change.model, change.alias, expected));
  if (change.to_version != 0) {
    POT_ASSIGN_OR_RETURN(
        const ModelVersionInfo info,
        catalog_->Find({.name = change.model, .version = change.to_version}));
    POT_RETURN_IF_ERROR(CheckAvailable(info));
  }
  const std::string model = change.model;
  POT_ASSIGN_OR_RETURN(AliasChange applied,
                       aliases_.Apply(std::move(change), expected));
  catalog_->SetAliases(model, relative_.In(aliases_.Aliases(model)));
  return applied;
}

absl::StatusOr<int64_t> ModelRepository::Impl::RollbackTarget(
    const AliasChange& change, int64_t* present) {
  POT_RETURN_IF_ERROR(InvalidField(ValidateAlias(change.alias), "alias"));
  POT_ASSIGN_OR_RETURN(
      const std::vector<AliasChange> history,
      History(change.model, change.alias, std::numeric_limits<int64_t>::max()));
  if (history.empty()) return AliasNotFound(change.model, change.alias);
  *present = history.front().to_version;
  const auto moved = std::find_if(
      history.begin(), history.end(),
      [](const auto& entry) { return entry.from_version != entry.to_version; });
  if (moved == history.end() || moved->from_version == 0) {
    return NoPrevious(absl::StrCat("alias ", change.alias, " of model ",
                                   change.model,
                                   " named no version before its last change"));
  }
  if (!catalog_->Contains(change.model, moved->from_version)) {
    return NoPrevious(absl::StrCat(
        "alias ", change.alias, " of model ", change.model, " named version ",
        moved->from_version, " before, which does not exist any more"));
  }
  return moved->from_version;
}

absl::StatusOr<std::vector<AliasChange>> ModelRepository::Impl::History(
    absl::string_view name, absl::string_view alias, int64_t limit) {
  POT_RETURN_IF_ERROR(Refresh(name));
  if (catalog_->List(name).empty()) return ModelNotFound(name);
  return aliases_.History(name, alias, limit);
}

absl::StatusOr<ModelVersionInfo> ModelRepository::Impl::Commit(
    StagedVersion staged, absl::string_view name, int64_t version) {
  absl::StatusOr<int64_t> committed =
      store_->Commit(std::move(staged), version, kEngineVersion);
  if (absl::IsAlreadyExists(committed.status())) {
    return WithDetails(committed.status(),
                       {.reason = "VERSION_EXISTS",
                        .metadata = {{"value", absl::StrCat(version)}}});
  }
  POT_RETURN_IF_ERROR(InvalidField(committed.status(), "version"));
  return Find({.name = std::string(name), .version = *committed});
}

absl::Status ModelRepository::Impl::Delete(absl::string_view name,
                                           int64_t version) {
  MutexLock alias_lock(&alias_mutex_);
  POT_ASSIGN_OR_RETURN(const ModelVersionInfo info,
                       Find({.name = std::string(name), .version = version}));
  if (!info.aliases.empty()) {
    const std::string aliases = absl::StrJoin(info.aliases, ", ");
    return WithDetails(
        absl::FailedPreconditionError(
            absl::StrCat("version ", version, " of model ", name,
                         " has the aliases ", aliases)),
        {.reason = "VERSION_ALIASED", .metadata = {{"value", aliases}}});
  }
  // Aliases that cannot be read may name it.
  POT_RETURN_IF_ERROR(aliases_.Aliases(name).status());
  MutexLock disk_lock(&disk_mutex_);
  POT_RETURN_IF_ERROR(catalog_->Remove(name, version));
  const absl::Status status = store_->Delete(name, version);
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

ModelRepository::ModelRepository(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

ModelRepository::~ModelRepository() = default;

const std::string& ModelRepository::root() const {
  return impl_->store()->root();
}

absl::StatusOr<std::unique_ptr<ModelRepository>> ModelRepository::Open(
    ModelRepositoryOptions options) {
  if (options.load.kernels == nullptr) {
    return absl::InvalidArgumentError(
        "ModelRepositoryOptions: load.kernels must be set");
  }
  if (options.max_resident_bytes < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("ModelRepositoryOptions: max_resident_bytes must be at "
                     "least 0; the given value is ",
                     options.max_resident_bytes));
  }
  POT_ASSIGN_OR_RETURN(std::unique_ptr<VersionStore> store,
                       VersionStore::Open(options.root));
  auto impl = std::make_unique<Impl>(std::move(options), std::move(store));
  POT_RETURN_IF_ERROR(impl->RefreshAll());
  return std::unique_ptr<ModelRepository>(new ModelRepository(std::move(impl)));
}

absl::StatusOr<std::shared_ptr<const LoadedModel>> ModelRepository::Acquire(
    const ModelSelector& selector) {
  auto model = impl_->catalog()->Acquire(selector);
  if (!absl::IsNotFound(model.status())) return model;
  POT_RETURN_IF_ERROR(impl_->relative().In(impl_->Refresh(selector.name)));
  return impl_->catalog()->Acquire(selector);
}

absl::StatusOr<std::vector<ModelVersionInfo>> ModelRepository::List(
    absl::string_view name) {
  POT_RETURN_IF_ERROR(impl_->relative().In(
      name.empty() ? impl_->RefreshAll() : impl_->Refresh(name)));
  return impl_->catalog()->List(name);
}

absl::StatusOr<ModelVersionInfo> ModelRepository::Get(
    const ModelSelector& selector) {
  return impl_->relative().In(impl_->Find(selector));
}

std::shared_ptr<ModelRepository::Subscription> ModelRepository::Watch(
    absl::string_view name, std::function<void(const ModelEvent&)> observer) {
  // A disk that cannot be read leaves the snapshot as it was.
  (name.empty() ? impl_->RefreshAll() : impl_->Refresh(name)).IgnoreError();
  const int64_t watch = impl_->catalog()->Watch(name, std::move(observer));
  return std::make_shared<Subscription>(impl_->shared_catalog(), watch);
}

absl::StatusOr<ModelVersionInfo> ModelRepository::Load(
    const ModelSelector& selector, absl::Time deadline) {
  return impl_->relative().In(impl_->Load(selector, deadline));
}

absl::StatusOr<ModelVersionInfo> ModelRepository::Unload(
    const ModelSelector& selector, absl::Time deadline) {
  POT_ASSIGN_OR_RETURN(const ModelVersionInfo info, impl_->Find(selector));
  return impl_->catalog()->Unload(info.name, info.version, deadline);
}

void ModelRepository::LoadServed(const std::function<bool()>& stop) {
  impl_->RefreshAll().IgnoreError();
  std::set<std::string> names;
  for (const ModelVersionInfo& info : impl_->catalog()->List("")) {
    names.insert(info.name);
  }
  for (const std::string& name : names) impl_->LoadServed(name, stop);
}

absl::StatusOr<AliasChange> ModelRepository::SetAlias(
    AliasChange change, std::optional<int64_t> expected) {
  return impl_->relative().In(impl_->ApplyAlias(std::move(change), expected));
}

absl::StatusOr<AliasChange> ModelRepository::RollbackAlias(
    AliasChange change, std::optional<int64_t> expected, absl::Time deadline) {
  int64_t present = 0;
  const RelativePaths& relative = impl_->relative();
  POT_ASSIGN_OR_RETURN(change.to_version,
                       relative.In(impl_->RollbackTarget(change, &present)));
  // A caller that is mistaken need not wait for a load to hear of it.
  if (!expected.has_value() || *expected == present) {
    POT_RETURN_IF_ERROR(
        Load({.name = change.model, .version = change.to_version}, deadline)
            .status());
  }
  return relative.In(
      impl_->ApplyAlias(std::move(change), expected.value_or(present)));
}

absl::StatusOr<std::vector<AliasChange>> ModelRepository::AliasHistory(
    absl::string_view name, absl::string_view alias, int64_t limit) {
  return impl_->relative().In(impl_->History(name, alias, limit));
}

absl::Status ModelRepository::CheckDiskSpace(int64_t bytes) const {
  struct statvfs info;
  if (statvfs(impl_->store()->root().c_str(), &info) != 0) {
    return absl::ErrnoToStatus(errno, "cannot ask for the free disk space");
  }
  int64_t available = 0;
  if (__builtin_mul_overflow(info.f_bavail, info.f_frsize, &available)) {
    return absl::OkStatus();
  }
  const int64_t limit = std::max<int64_t>(0, available - impl_->options().min_free_disk_bytes);
  if (bytes <= limit) return absl::OkStatus();
  return WithDetails(
      absl::ResourceExhaustedError(absl::StrCat(
          bytes,
          " bytes do not fit on the repository's disk, which has room "
          "for ",
          limit)),
      {.reason = "DISK_BUDGET",
       .metadata = {{"limit", absl::StrCat(limit)},
                    {"value", absl::StrCat(bytes)}}});
}

absl::StatusOr<StagedVersion> ModelRepository::Stage(absl::string_view name) {
  POT_RETURN_IF_ERROR(InvalidField(ValidateModelName(name), "name"));
  return impl_->relative().In(impl_->store()->Stage(name));
}

absl::StatusOr<ModelVersionInfo> ModelRepository::Register(
    StagedVersion staged, absl::string_view name, int64_t version) {
  const RelativePaths& relative = impl_->relative();
  POT_ASSIGN_OR_RETURN(
      const VersionDescription description,
      relative.In(DescribeVersion(staged.directory(), impl_->options().load)));
  POT_RETURN_IF_ERROR(
      relative.In(VerifyFiles(staged.directory(), description.manifest)));
  return relative.In(impl_->Commit(std::move(staged), name, version));
}

absl::StatusOr<ModelVersionInfo> ModelRepository::Import(
    absl::string_view name, const std::string& directory,
    const std::optional<QuantizeModelOptions>& options,
    const std::function<bool(int64_t, int64_t)>& progress) {
  POT_RETURN_IF_ERROR(InvalidField(ValidateModelName(name), "name"));
  POT_ASSIGN_OR_RETURN(const std::string from,
                       ResolveImport(impl_->options().import_root, directory));
  return ImportOwn(name, from, options, progress);
}

absl::StatusOr<ModelVersionInfo> ModelRepository::ImportVersion(
    absl::string_view name, const ModelSelector& base,
    const std::optional<QuantizeModelOptions>& options,
    const std::function<bool(int64_t, int64_t)>& progress) {
  POT_ASSIGN_OR_RETURN(const ModelVersionInfo info, Get(base));
  if (info.format != "f32") {
    return WithDetails(
        absl::FailedPreconditionError(absl::StrCat(
            "version ", info.version, " of model ", info.name,
            " is not of the format f32 but ", info.format)),
        {.reason = "BASE_NOT_FLOAT", .metadata = {{"value", info.format}}});
  }
  return ImportOwn(name,
                   impl_->store()->VersionDirectory(info.name, info.version),
                   options, progress);
}

absl::StatusOr<ModelVersionInfo> ModelRepository::ImportOwn(
    absl::string_view name, const std::string& directory,
    const std::optional<QuantizeModelOptions>& options,
    const std::function<bool(int64_t, int64_t)>& progress) {
  POT_RETURN_IF_ERROR(InvalidField(ValidateModelName(name), "name"));
  POT_RETURN_IF_ERROR(CheckDiskSpace(DirectoryBytes(directory)));
  const RelativePaths& relative = impl_->relative();
  POT_ASSIGN_OR_RETURN(StagedVersion staged,
                       relative.In(impl_->store()->Stage(name)));
  POT_RETURN_IF_ERROR(relative.In(
      ImportInto(directory, staged.directory(), options, progress)));
  return relative.In(impl_->Commit(std::move(staged), name, 0));
}

absl::Status ModelRepository::Delete(absl::string_view name, int64_t version) {
  return impl_->relative().In(impl_->Delete(name, version));
}

absl::StatusOr<VersionDiff> ModelRepository::Diff(const ModelSelector& left,
                                                  const ModelSelector& right) {
  VersionDiff diff;
  POT_ASSIGN_OR_RETURN(diff.left, Get(left));
  POT_ASSIGN_OR_RETURN(diff.right, Get(right));
  for (const ModelVersionInfo* info : {&diff.left, &diff.right}) {
    if (info->state == State::kFailed) return NotServing(*info);
  }
  VersionStore* const store = impl_->store();
  POT_ASSIGN_OR_RETURN(
      diff.tensors,
      impl_->relative().In(DiffDirectories(
          store->VersionDirectory(diff.left.name, diff.left.version),
          store->VersionDirectory(diff.right.name, diff.right.version))));
  return diff;
}

}  // namespace pot
