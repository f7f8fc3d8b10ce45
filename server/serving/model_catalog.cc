#include "server/serving/model_catalog.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "server/serving/error_details.h"
#include "server/serving/version_errors.h"

namespace pot {
namespace {

using State = ModelVersionState;

constexpr char kDefaultAlias[] = "default";

std::chrono::steady_clock::time_point SteadyDeadline(absl::Time deadline) {
  // A bound that no steady clock overflows with.
  const absl::Duration left = std::clamp(
      deadline - absl::Now(), absl::ZeroDuration(), absl::Hours(24 * 365));
  return std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(left);
}

}  // namespace

void ModelCatalog::TransitionTo(Entry* entry, State state) {
  assert(TransitionAllowed(entry->info.state, state));
  entry->info.state = state;
  entry->info.state_message =
      state == State::kFailed ? std::string(entry->error.message()) : "";
  Publish(*entry, ModelEvent::Kind::kChanged);
  changed_.NotifyAll();
}

void ModelCatalog::Publish(const Entry& entry, ModelEvent::Kind kind) const {
  ModelEvent event;
  event.kind = kind;
  event.time = absl::Now();
  if (kind == ModelEvent::Kind::kDeleted) {
    event.version.name = entry.info.name;
    event.version.version = entry.info.version;
  } else {
    event.version = Info(entry);
  }
  for (const auto& [id, watcher] : watchers_) {
    if (watcher.name.empty() || watcher.name == entry.info.name) {
      watcher.observer(event);
    }
  }
}

ModelVersionInfo ModelCatalog::Info(const Entry& entry) const {
  ModelVersionInfo info = entry.info;
  const auto model = models_.find(info.name);
  if (model == models_.end() || !model->second.aliases.ok()) return info;
  for (const auto& [alias, version] : *model->second.aliases) {
    if (version == info.version) info.aliases.push_back(alias);
  }
  return info;
}

absl::StatusOr<const ModelCatalog::Model*> ModelCatalog::FindModel(
    absl::string_view name) const {
  const auto model = models_.find(name);
  if (model == models_.end() || model->second.versions.empty()) {
    return ModelNotFound(name);
  }
  return &model->second;
}

ModelCatalog::Entry* ModelCatalog::FindEntry(absl::string_view name,
                                             int64_t version) {
  const auto model = models_.find(name);
  if (model == models_.end()) return nullptr;
  const auto entry = model->second.versions.find(version);
  return entry == model->second.versions.end() ? nullptr : &entry->second;
}

absl::StatusOr<ModelCatalog::Entry*> ModelCatalog::GetEntry(
    absl::string_view name, int64_t version) {
  Entry* const entry = FindEntry(name, version);
  if (entry != nullptr) return entry;
  POT_RETURN_IF_ERROR(FindModel(name).status());
  return VersionNotFound(name, version);
}

absl::StatusOr<const ModelCatalog::Entry*> ModelCatalog::Resolve(
    const ModelSelector& selector, bool loading_first) const {
  POT_ASSIGN_OR_RETURN(const Model* model, FindModel(selector.name));
  const auto& versions = model->versions;
  const auto by_number = [&](int64_t version) -> absl::StatusOr<const Entry*> {
    const auto entry = versions.find(version);
    if (entry == versions.end()) {
      return VersionNotFound(selector.name, version);
    }
    return &entry->second;
  };
  if (selector.version.has_value()) return by_number(*selector.version);
  if (selector.digest.empty()) {
    POT_RETURN_IF_ERROR(model->aliases.status());
    const bool named = !selector.alias.empty();
    const auto alias =
        model->aliases->find(named ? selector.alias : kDefaultAlias);
    if (alias != model->aliases->end()) return by_number(alias->second);
    if (named) return AliasNotFound(selector.name, selector.alias);
  }
  const Entry* best = nullptr;
  const auto rank = [&](const Entry& entry) {
    if (entry.info.state == State::kAvailable) return 2;
    return loading_first && IsOnItsWay(entry.info.state) ? 1 : 0;
  };
  for (const auto& [number, entry] : versions) {
    if (!selector.digest.empty() && entry.info.digest != selector.digest) {
      continue;
    }
    if (best == nullptr || rank(entry) >= rank(*best)) best = &entry;
  }
  if (best == nullptr) return DigestNotFound(selector.name, selector.digest);
  return best;
}

absl::StatusOr<std::shared_ptr<const LoadedModel>> ModelCatalog::Acquire(
    const ModelSelector& selector) const {
  MutexLock lock(&mutex_);
  POT_ASSIGN_OR_RETURN(const Entry* entry, Resolve(selector, true));
  if (entry->model == nullptr) return NotServing(entry->info);
  return entry->model;
}

absl::StatusOr<ModelVersionInfo> ModelCatalog::Find(
    const ModelSelector& selector) const {
  MutexLock lock(&mutex_);
  POT_ASSIGN_OR_RETURN(const Entry* entry, Resolve(selector, false));
  return Info(*entry);
}

std::vector<ModelVersionInfo> ModelCatalog::List(absl::string_view name) const {
  MutexLock lock(&mutex_);
  std::vector<ModelVersionInfo> infos;
  for (const auto& [model_name, model] : models_) {
    if (!name.empty() && name != model_name) continue;
    for (const auto& [number, entry] : model.versions) {
      infos.push_back(Info(entry));
    }
  }
  return infos;
}

bool ModelCatalog::Contains(absl::string_view name, int64_t version) const {
  MutexLock lock(&mutex_);
  const auto model = models_.find(name);
  return model != models_.end() && model->second.versions.count(version) != 0;
}

void ModelCatalog::Add(const std::string& name, int64_t version,
                       const absl::StatusOr<VersionDescription>& description) {
  MutexLock lock(&mutex_);
  Entry& entry = models_[name].versions[version];
  if (description.ok()) {
    entry.info = description->info;
    entry.min_resident_bytes = description->min_resident_bytes;
  }
  entry.info.name = name;
  entry.info.version = version;
  Publish(entry, ModelEvent::Kind::kChanged);
  if (description.ok()) return;
  entry.error = description.status();
  TransitionTo(&entry, State::kVerifying);
  TransitionTo(&entry, State::kFailed);
}

absl::Status ModelCatalog::Remove(absl::string_view name, int64_t version) {
  MutexLock lock(&mutex_);
  POT_ASSIGN_OR_RETURN(Entry * entry, GetEntry(name, version));
  const State state = entry->info.state;
  if (state != State::kRegistered && state != State::kUnloaded &&
      state != State::kFailed) {
    return StillLoaded(entry->info);
  }
  const auto model = models_.find(name);
  const auto node = model->second.versions.extract(version);
  Publish(node.mapped(), ModelEvent::Kind::kDeleted);
  if (model->second.versions.empty()) models_.erase(model);
  changed_.NotifyAll();
  return absl::OkStatus();
}

void ModelCatalog::SetAliases(
    const std::string& name,
    absl::StatusOr<std::map<std::string, int64_t>> aliases) {
  MutexLock lock(&mutex_);
  const auto model = models_.find(name);
  if (model == models_.end()) return;
  std::map<int64_t, std::vector<std::string>> before;
  for (const auto& [number, entry] : model->second.versions) {
    before[number] = Info(entry).aliases;
  }
  model->second.aliases = std::move(aliases);
  for (const auto& [number, entry] : model->second.versions) {
    if (Info(entry).aliases != before[number]) {
      Publish(entry, ModelEvent::Kind::kChanged);
    }
  }
}

absl::Status ModelCatalog::CheckBudget(const Entry& entry,
                                       int64_t wanted) const {
  const int64_t others = reserved_bytes_ - entry.reserved_bytes;
  if (max_resident_bytes_ == 0 || wanted <= max_resident_bytes_ - others) {
    return absl::OkStatus();
  }
  return WithDetails(
      absl::ResourceExhaustedError(absl::StrCat(
          "version ", entry.info.version, " of model ", entry.info.name,
          " takes ", wanted, " bytes of memory; ", others, " of ",
          max_resident_bytes_, " are taken by others")),
      {.reason = "MEMORY_BUDGET",
       .metadata = {{"limit", absl::StrCat(max_resident_bytes_ - others)},
                    {"value", absl::StrCat(wanted)}}});
}

absl::StatusOr<ModelCatalog::LoadStart> ModelCatalog::BeginLoad(
    absl::string_view name, int64_t version) {
  MutexLock lock(&mutex_);
  POT_ASSIGN_OR_RETURN(Entry * entry, GetEntry(name, version));
  if (entry->info.state == State::kAvailable) return LoadStart::kAvailable;
  if (IsOnItsWay(entry->info.state)) return LoadStart::kOnItsWay;
  if (entry->info.state == State::kUnloading) return NotServing(entry->info);
  POT_RETURN_IF_ERROR(CheckBudget(*entry, entry->min_resident_bytes));
  entry->reserved_bytes = entry->min_resident_bytes;
  reserved_bytes_ += entry->reserved_bytes;
  entry->error = absl::OkStatus();
  TransitionTo(entry, State::kVerifying);
  return LoadStart::kBegun;
}

void ModelCatalog::Enter(absl::string_view name, int64_t version, State state) {
  MutexLock lock(&mutex_);
  Entry* const entry = FindEntry(name, version);
  if (entry != nullptr) TransitionTo(entry, state);
}

absl::StatusOr<ModelVersionInfo> ModelCatalog::EndLoad(
    absl::string_view name, int64_t version, absl::Duration took,
    const VersionDescription* description,
    absl::StatusOr<std::shared_ptr<const LoadedModel>> model) {
  // Declared before the lock, so that a model that is refused goes after it.
  std::shared_ptr<const LoadedModel> pin;
  if (model.ok()) pin = Pin(*std::move(model));
  MutexLock lock(&mutex_);
  POT_ASSIGN_OR_RETURN(Entry * entry, GetEntry(name, version));
  if (description != nullptr) {
    const ModelVersionInfo previous =
        std::exchange(entry->info, description->info);
    entry->info.name = previous.name;
    entry->info.version = previous.version;
    entry->info.state = previous.state;
    entry->min_resident_bytes = description->min_resident_bytes;
  }
  entry->error = model.status();
  if (entry->error.ok()) {
    entry->error = CheckBudget(*entry, pin->weights->resident_bytes());
  }
  reserved_bytes_ -= std::exchange(entry->reserved_bytes, 0);
  if (!entry->error.ok()) {
    TransitionTo(entry, State::kFailed);
    return entry->error;
  }
  entry->reserved_bytes = pin->weights->resident_bytes();
  reserved_bytes_ += entry->reserved_bytes;
  entry->info.resident_bytes = entry->reserved_bytes;
  entry->info.load_seconds = absl::ToDoubleSeconds(took);
  entry->model = std::move(pin);
  TransitionTo(entry, State::kAvailable);
  return Info(*entry);
}

absl::StatusOr<ModelVersionInfo> ModelCatalog::WaitForLoad(
    absl::string_view name, int64_t version, absl::Time deadline) {
  const auto until = SteadyDeadline(deadline);
  MutexLock lock(&mutex_);
  for (bool in_time = true;;) {
    POT_ASSIGN_OR_RETURN(Entry * entry, GetEntry(name, version));
    if (!IsOnItsWay(entry->info.state)) {
      if (entry->info.state == State::kFailed) return entry->error;
      if (entry->info.state != State::kAvailable) {
        return NotServing(entry->info);
      }
      return Info(*entry);
    }
    if (!in_time) return WaitedTooLong(entry->info);
    in_time = changed_.WaitUntil(&mutex_, until);
  }
}

absl::StatusOr<ModelVersionInfo> ModelCatalog::Unload(absl::string_view name,
                                                      int64_t version,
                                                      absl::Time deadline) {
  const auto until = SteadyDeadline(deadline);
  std::shared_ptr<const LoadedModel> pin;
  {
    MutexLock lock(&mutex_);
    POT_ASSIGN_OR_RETURN(Entry * entry, GetEntry(name, version));
    if (IsOnItsWay(entry->info.state)) return NotServing(entry->info);
    if (entry->info.state == State::kAvailable) {
      pin = std::move(entry->model);
      TransitionTo(entry, State::kUnloading);
    }
  }
  pin.reset();
  MutexLock lock(&mutex_);
  for (bool in_time = true;;) {
    POT_ASSIGN_OR_RETURN(Entry * entry, GetEntry(name, version));
    if (entry->info.state != State::kUnloading) return Info(*entry);
    if (!in_time) return WaitedTooLong(entry->info);
    in_time = changed_.WaitUntil(&mutex_, until);
  }
}

std::shared_ptr<const LoadedModel> ModelCatalog::Pin(
    std::shared_ptr<const LoadedModel> model) {
  const LoadedModel* const raw = model.get();
  return std::shared_ptr<const LoadedModel>(
      raw, [model = std::move(model), name = raw->identity.name,
            version = raw->identity.version,
            weak = weak_from_this()](const LoadedModel*) mutable {
        model.reset();
        const std::shared_ptr<ModelCatalog> catalog = weak.lock();
        if (catalog != nullptr) catalog->OnFreed(name, version);
      });
}

void ModelCatalog::OnFreed(const std::string& name, int64_t version) {
  MutexLock lock(&mutex_);
  Entry* const entry = FindEntry(name, version);
  // Otherwise it was refused by EndLoad().
  if (entry == nullptr || entry->info.state != State::kUnloading) return;
  reserved_bytes_ -= std::exchange(entry->reserved_bytes, 0);
  entry->info.resident_bytes = 0;
  TransitionTo(entry, State::kUnloaded);
}

int64_t ModelCatalog::Watch(absl::string_view name, ModelObserver observer) {
  MutexLock lock(&mutex_);
  ModelEvent event;
  event.time = absl::Now();
  event.kind = ModelEvent::Kind::kSnapshot;
  for (const auto& [model_name, model] : models_) {
    if (!name.empty() && name != model_name) continue;
    for (const auto& [number, entry] : model.versions) {
      event.version = Info(entry);
      observer(event);
    }
  }
  event.kind = ModelEvent::Kind::kSnapshotDone;
  event.version = ModelVersionInfo();
  observer(event);
  watchers_[next_watch_] = {std::string(name), std::move(observer)};
  return next_watch_++;
}

void ModelCatalog::Unwatch(int64_t watch) {
  // The observer is destroyed after the lock.
  decltype(watchers_)::node_type node;
  MutexLock lock(&mutex_);
  node = watchers_.extract(watch);
}

void ModelCatalog::DropAll() {
  std::vector<std::shared_ptr<const LoadedModel>> pins;
  MutexLock lock(&mutex_);
  watchers_.clear();
  for (auto& [name, model] : models_) {
    for (auto& [number, entry] : model.versions) {
      if (entry.model == nullptr) continue;
      pins.push_back(std::move(entry.model));
      TransitionTo(&entry, State::kUnloading);
    }
  }
}

}  // namespace pot
