#include "server/serving/model_repository.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "server/serving/disk_backed_catalog.h"
#include "server/serving/error_details.h"
#include "server/serving/model_import.h"
#include "server/serving/version_description.h"
#include "server/serving/version_errors.h"

namespace pot {

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

ModelRepository::ModelRepository(std::unique_ptr<DiskBackedCatalog> versions)
    : versions_(std::move(versions)) {}

ModelRepository::~ModelRepository() = default;

const std::string& ModelRepository::root() const {
  return versions_->store()->root();
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
  auto versions =
      std::make_unique<DiskBackedCatalog>(std::move(options), std::move(store));
  POT_RETURN_IF_ERROR(versions->RefreshAll());
  return std::unique_ptr<ModelRepository>(
      new ModelRepository(std::move(versions)));
}

absl::StatusOr<std::shared_ptr<const LoadedModel>> ModelRepository::Acquire(
    const ModelSelector& selector) {
  auto model = versions_->catalog()->Acquire(selector);
  if (!absl::IsNotFound(model.status())) return model;
  POT_RETURN_IF_ERROR(
      versions_->relative().In(versions_->Refresh(selector.name)));
  return versions_->catalog()->Acquire(selector);
}

absl::StatusOr<std::vector<ModelVersionInfo>> ModelRepository::List(
    absl::string_view name) {
  POT_RETURN_IF_ERROR(versions_->relative().In(
      name.empty() ? versions_->RefreshAll() : versions_->Refresh(name)));
  return versions_->catalog()->List(name);
}

absl::StatusOr<ModelVersionInfo> ModelRepository::Get(
    const ModelSelector& selector) {
  return versions_->relative().In(versions_->Find(selector));
}

std::shared_ptr<ModelRepository::Subscription> ModelRepository::Watch(
    absl::string_view name, std::function<void(const ModelEvent&)> observer) {
  // A disk that cannot be read leaves the snapshot as it was.
  (name.empty() ? versions_->RefreshAll() : versions_->Refresh(name))
      .IgnoreError();
  const int64_t watch = versions_->catalog()->Watch(name, std::move(observer));
  return std::make_shared<Subscription>(versions_->shared_catalog(), watch);
}

absl::StatusOr<ModelVersionInfo> ModelRepository::Load(
    const ModelSelector& selector, absl::Time deadline) {
  return versions_->relative().In(versions_->Load(selector, deadline));
}

absl::StatusOr<ModelVersionInfo> ModelRepository::Unload(
    const ModelSelector& selector, absl::Time deadline) {
  POT_ASSIGN_OR_RETURN(const ModelVersionInfo info, versions_->Find(selector));
  return versions_->catalog()->Unload(info.name, info.version, deadline);
}

void ModelRepository::LoadServed(const std::function<bool()>& stop) {
  versions_->RefreshAll().IgnoreError();
  std::set<std::string> names;
  for (const ModelVersionInfo& info : versions_->catalog()->List("")) {
    names.insert(info.name);
  }
  for (const std::string& name : names) versions_->LoadServed(name, stop);
}

absl::StatusOr<AliasChange> ModelRepository::SetAlias(
    AliasChange change, std::optional<int64_t> expected) {
  return versions_->relative().In(
      versions_->ApplyAlias(std::move(change), expected));
}

absl::StatusOr<AliasChange> ModelRepository::RollbackAlias(
    AliasChange change, std::optional<int64_t> expected, absl::Time deadline) {
  int64_t present = 0;
  const RelativePaths& relative = versions_->relative();
  POT_ASSIGN_OR_RETURN(change.to_version, relative.In(versions_->RollbackTarget(
                                              change, &present)));
  // A caller that is mistaken need not wait for a load to hear of it.
  if (!expected.has_value() || *expected == present) {
    POT_RETURN_IF_ERROR(
        Load({.name = change.model, .version = change.to_version}, deadline)
            .status());
  }
  return relative.In(
      versions_->ApplyAlias(std::move(change), expected.value_or(present)));
}

absl::StatusOr<std::vector<AliasChange>> ModelRepository::AliasHistory(
    absl::string_view name, absl::string_view alias, int64_t limit) {
  return versions_->relative().In(versions_->History(name, alias, limit));
}

absl::Status ModelRepository::CheckDiskSpace(int64_t bytes) const {
  struct statvfs info;
  if (statvfs(versions_->store()->root().c_str(), &info) != 0) {
    return absl::ErrnoToStatus(errno, "cannot ask for the free disk space");
  }
  int64_t available = 0;
  if (__builtin_mul_overflow(info.f_bavail, info.f_frsize, &available)) {
    return absl::OkStatus();
  }
  const int64_t limit = std::max<int64_t>(
      0, available - versions_->options().min_free_disk_bytes);
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
  return versions_->relative().In(versions_->store()->Stage(name));
}

absl::StatusOr<ModelVersionInfo> ModelRepository::Register(
    StagedVersion staged, absl::string_view name, int64_t version) {
  const RelativePaths& relative = versions_->relative();
  POT_ASSIGN_OR_RETURN(const VersionDescription description,
                       relative.In(DescribeVersion(staged.directory(),
                                                   versions_->options().load)));
  POT_RETURN_IF_ERROR(
      relative.In(VerifyFiles(staged.directory(), description.manifest)));
  return relative.In(versions_->Commit(std::move(staged), name, version));
}

absl::StatusOr<ModelVersionInfo> ModelRepository::Import(
    absl::string_view name, const std::string& directory,
    const std::optional<QuantizeModelOptions>& options,
    const std::function<bool(int64_t, int64_t)>& progress) {
  POT_RETURN_IF_ERROR(InvalidField(ValidateModelName(name), "name"));
  POT_ASSIGN_OR_RETURN(
      const std::string from,
      ResolveImport(versions_->options().import_root, directory));
  return ImportOwn(name, from, options, progress);
}

absl::StatusOr<ModelVersionInfo> ModelRepository::ImportVersion(
    absl::string_view name, const ModelSelector& base,
    const std::optional<QuantizeModelOptions>& options,
    const std::function<bool(int64_t, int64_t)>& progress) {
  POT_ASSIGN_OR_RETURN(const ModelVersionInfo info, Get(base));
  if (info.format != "f32") {
    return WithDetails(
        absl::FailedPreconditionError(
            absl::StrCat("version ", info.version, " of model ", info.name,
                         " is not of the format f32 but ", info.format)),
        {.reason = "BASE_NOT_FLOAT", .metadata = {{"value", info.format}}});
  }
  return ImportOwn(
      name, versions_->store()->VersionDirectory(info.name, info.version),
      options, progress);
}

absl::StatusOr<ModelVersionInfo> ModelRepository::ImportOwn(
    absl::string_view name, const std::string& directory,
    const std::optional<QuantizeModelOptions>& options,
    const std::function<bool(int64_t, int64_t)>& progress) {
  POT_RETURN_IF_ERROR(InvalidField(ValidateModelName(name), "name"));
  POT_RETURN_IF_ERROR(CheckDiskSpace(DirectoryBytes(directory)));
  const RelativePaths& relative = versions_->relative();
  POT_ASSIGN_OR_RETURN(StagedVersion staged,
                       relative.In(versions_->store()->Stage(name)));
  POT_RETURN_IF_ERROR(relative.In(
      ImportInto(directory, staged.directory(), options, progress)));
  return relative.In(versions_->Commit(std::move(staged), name, 0));
}

absl::Status ModelRepository::Delete(absl::string_view name, int64_t version) {
  return versions_->relative().In(versions_->Delete(name, version));
}

absl::StatusOr<VersionDiff> ModelRepository::Diff(const ModelSelector& left,
                                                  const ModelSelector& right) {
  VersionDiff diff;
  POT_ASSIGN_OR_RETURN(diff.left, Get(left));
  POT_ASSIGN_OR_RETURN(diff.right, Get(right));
  for (const ModelVersionInfo* info : {&diff.left, &diff.right}) {
    if (info->state == ModelVersionState::kFailed) return NotServing(*info);
  }
  VersionStore* const store = versions_->store();
  POT_ASSIGN_OR_RETURN(
      diff.tensors,
      versions_->relative().In(DiffDirectories(
          store->VersionDirectory(diff.left.name, diff.left.version),
          store->VersionDirectory(diff.right.name, diff.right.version))));
  return diff;
}

}  // namespace pot
