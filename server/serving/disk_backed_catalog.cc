#include "server/serving/disk_backed_catalog.h"

#include <algorithm>
#include <limits>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "engine/gpt2/engine_version.h"
#include "server/serving/error_details.h"
#include "server/serving/model_loader.h"
#include "server/serving/version_description.h"
#include "server/serving/version_errors.h"

namespace pot {
namespace {

using State = ModelVersionState;

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

absl::Status DiskBackedCatalog::RefreshLocked(absl::string_view name) {
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

absl::Status DiskBackedCatalog::Refresh(absl::string_view name) {
  // No model can have another name.
  if (!ValidateModelName(name).ok()) return absl::OkStatus();
  MutexLock lock(&disk_mutex_);
  return RefreshLocked(name);
}

absl::Status DiskBackedCatalog::RefreshAll() {
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

absl::StatusOr<ModelVersionInfo> DiskBackedCatalog::Find(
    const ModelSelector& selector) {
  POT_RETURN_IF_ERROR(Refresh(selector.name));
  return catalog_->Find(selector);
}

absl::StatusOr<ModelVersionInfo> DiskBackedCatalog::LoadVersion(
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

absl::StatusOr<ModelVersionInfo> DiskBackedCatalog::Load(
    const ModelSelector& selector, absl::Time deadline) {
  POT_ASSIGN_OR_RETURN(const ModelVersionInfo info, Find(selector));
  return LoadVersion(info.name, info.version, deadline);
}

void DiskBackedCatalog::LoadServed(const std::string& name,
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

absl::StatusOr<AliasChange> DiskBackedCatalog::ApplyAlias(
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

absl::StatusOr<int64_t> DiskBackedCatalog::RollbackTarget(
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

absl::StatusOr<std::vector<AliasChange>> DiskBackedCatalog::History(
    absl::string_view name, absl::string_view alias, int64_t limit) {
  POT_RETURN_IF_ERROR(Refresh(name));
  if (catalog_->List(name).empty()) return ModelNotFound(name);
  return aliases_.History(name, alias, limit);
}

absl::StatusOr<ModelVersionInfo> DiskBackedCatalog::Commit(
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

absl::Status DiskBackedCatalog::Delete(absl::string_view name,
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

}  // namespace pot
