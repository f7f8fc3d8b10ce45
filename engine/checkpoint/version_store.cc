#include "engine/checkpoint/version_store.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/characters.h"
#include "engine/base/file.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/directory.h"

namespace pot {
namespace {

using Kind = DirectoryEntry::Kind;

// Model names begin with a letter or a digit, so these are never models.
constexpr char kStaging[] = ".staging";
constexpr char kTrash[] = ".trash";
// <model>/<n>.deleted keeps a number from being used again.
constexpr char kTombstoneSuffix[] = ".deleted";

constexpr size_t kMaxModelName = 64;
constexpr absl::Duration kStaleAfter = absl::Hours(1);
// Every failed attempt means that another writer has succeeded.
constexpr int kMaxCommitAttempts = 1000;

// 1, 2, ..: at most 18 digits, so that one more still fits in 64 bits. 0 for
// any other name.
int64_t ParseVersion(absl::string_view name) {
  int64_t version = 0;
  if (name.empty() || name.size() > 18 || name.front() == '0' ||
      !std::all_of(name.begin(), name.end(), absl::ascii_isdigit) ||
      !absl::SimpleAtoi(name, &version)) {
    return 0;
  }
  return version;
}

// A name below `parent` that nobody else uses, of this or another process.
std::string UniquePath(const std::string& parent, absl::string_view model) {
  static std::atomic<uint64_t> counter{0};
  return absl::StrCat(parent, "/", model, ".", getpid(), ".",
                      absl::ToUnixNanos(absl::Now()), ".", ++counter);
}

absl::Time LastModified(const std::string& path, const DirectoryEntry& entry) {
  absl::Time latest = entry.modified;
  const auto entries = ListDirectory(path);
  if (!entries.ok()) return latest;
  for (const DirectoryEntry& inner : *entries) {
    latest = std::max(latest, inner.modified);
  }
  return latest;
}

// Best effort: what cannot be removed now is tried again at the next Open().
void RemoveStale(const std::string& directory, absl::Duration age) {
  const auto entries = ListDirectory(directory);
  if (!entries.ok()) return;
  for (const DirectoryEntry& entry : *entries) {
    const std::string path = absl::StrCat(directory, "/", entry.name);
    if (age == absl::ZeroDuration() ||
        absl::Now() - LastModified(path, entry) > age) {
      RemoveTree(path).IgnoreError();
    }
  }
}

absl::Status CheckVersion(int64_t version, int64_t lowest) {
  constexpr int64_t kMaxVersion = 999999999999999999;
  if (version >= lowest && version <= kMaxVersion) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "version ", version, " is not in [", lowest, ", ", kMaxVersion, "]"));
}

// One more than the highest number that is or was a version.
absl::StatusOr<int64_t> NextVersion(const std::string& model_directory) {
  POT_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries,
                       ListDirectory(model_directory));
  int64_t highest = 0;
  for (const DirectoryEntry& entry : entries) {
    absl::string_view name = entry.name;
    absl::ConsumeSuffix(&name, kTombstoneSuffix);
    highest = std::max(highest, ParseVersion(name));
  }
  return highest + 1;
}

// Syncs every file, and writes the manifest or verifies the one that is there.
absl::Status Seal(const std::string& directory,
                  const std::string& tool_version) {
  POT_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries,
                       ListDirectory(directory));
  bool has_manifest = false;
  for (const DirectoryEntry& entry : entries) {
    if (entry.name == kManifestFile) has_manifest = true;
    if (entry.kind == Kind::kFile) {
      POT_RETURN_IF_ERROR(SyncFile(absl::StrCat(directory, "/", entry.name)));
    }
  }
  if (!has_manifest) {
    return WriteManifest(directory, absl::ToUnixSeconds(absl::Now()),
                         tool_version)
        .status();
  }
  POT_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(directory));
  POT_RETURN_IF_ERROR(VerifyManifest(directory, manifest));
  return SyncDirectory(directory);
}

}  // namespace

absl::Status ValidateModelName(absl::string_view name) {
  if (IsName(name, kMaxModelName)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("model name ", Quote(name), " must be 1 to ", kMaxModelName,
                   " of [A-Za-z0-9._-] and begin with a letter or a digit"));
}

StagedVersion::~StagedVersion() {
  if (!directory_.empty()) RemoveTree(directory_).IgnoreError();
}

StagedVersion::StagedVersion(StagedVersion&& other) noexcept
    : directory_(std::exchange(other.directory_, std::string())),
      model_(std::move(other.model_)) {}

absl::StatusOr<std::unique_ptr<VersionStore>> VersionStore::Open(
    const std::string& root) {
  std::error_code error;
  std::filesystem::create_directories(root, error);
  const std::filesystem::path canonical =
      error ? std::filesystem::path() : std::filesystem::canonical(root, error);
  if (error) {
    return absl::ErrnoToStatus(error.value(),
                               absl::StrCat("model repository ", Quote(root)));
  }
  auto store =
      std::unique_ptr<VersionStore>(new VersionStore(canonical.string()));
  const std::string staging = absl::StrCat(store->root_, "/", kStaging);
  const std::string trash = absl::StrCat(store->root_, "/", kTrash);
  POT_RETURN_IF_ERROR(MakeDirectory(staging).status());
  POT_RETURN_IF_ERROR(MakeDirectory(trash).status());
  RemoveStale(staging, kStaleAfter);
  RemoveStale(trash, absl::ZeroDuration());
  return store;
}

absl::StatusOr<std::vector<std::string>> VersionStore::ListModels() const {
  POT_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries,
                       ListDirectory(root_));
  std::vector<std::string> models;
  for (const DirectoryEntry& entry : entries) {
    if (entry.kind != Kind::kDirectory || !ValidateModelName(entry.name).ok()) {
      continue;
    }
    POT_ASSIGN_OR_RETURN(const std::vector<int64_t> versions,
                         ListVersions(entry.name));
    if (!versions.empty()) models.push_back(entry.name);
  }
  return models;
}

absl::StatusOr<std::vector<int64_t>> VersionStore::ListVersions(
    absl::string_view model) const {
  POT_RETURN_IF_ERROR(ValidateModelName(model));
  const std::string directory = absl::StrCat(root_, "/", model);
  std::vector<int64_t> versions;
  if (!IsDirectory(directory)) return versions;
  POT_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries,
                       ListDirectory(directory));
  for (const DirectoryEntry& entry : entries) {
    const int64_t version = ParseVersion(entry.name);
    if (version > 0 && entry.kind == Kind::kDirectory) {
      versions.push_back(version);
    }
  }
  std::sort(versions.begin(), versions.end());
  return versions;
}

std::string VersionStore::VersionDirectory(absl::string_view model,
                                           int64_t version) const {
  if (!ValidateModelName(model).ok()) {
    return absl::StrCat(root_, "/.invalid/", version);
  }
  return absl::StrCat(root_, "/", model, "/", version);
}

absl::StatusOr<StagedVersion> VersionStore::Stage(absl::string_view model) {
  POT_RETURN_IF_ERROR(ValidateModelName(model));
  const std::string path =
      UniquePath(absl::StrCat(root_, "/", kStaging), model);
  POT_ASSIGN_OR_RETURN(const bool made, MakeDirectory(path));
  if (!made) return absl::InternalError(absl::StrCat(path, " exists"));
  return StagedVersion(path, std::string(model));
}

absl::StatusOr<int64_t> VersionStore::Commit(StagedVersion staged,
                                             int64_t version,
                                             const std::string& tool_version) {
  if (staged.directory_.empty()) {
    return absl::FailedPreconditionError(
        "the staged version was committed or moved from");
  }
  POT_RETURN_IF_ERROR(CheckVersion(version, 0));
  POT_RETURN_IF_ERROR(Seal(staged.directory_, tool_version));
  const std::string model_directory = absl::StrCat(root_, "/", staged.model_);
  POT_ASSIGN_OR_RETURN(const bool made, MakeDirectory(model_directory));
  if (made) POT_RETURN_IF_ERROR(SyncDirectory(root_));
  for (int attempt = 0; attempt < kMaxCommitAttempts; ++attempt) {
    int64_t target = version;
    if (version == 0) {
      POT_ASSIGN_OR_RETURN(target, NextVersion(model_directory));
      POT_RETURN_IF_ERROR(CheckVersion(target, 1));
    }
    bool renamed = false;
    const absl::Status status = RenameDirectory(
        staged.directory_, VersionDirectory(staged.model_, target), &renamed);
    if (status.ok()) {
      staged.directory_.clear();
      return target;
    }
    if (renamed) return TakeBack(staged, target, status);
    if (!absl::IsAlreadyExists(status)) return status;
    if (version != 0) {
      return absl::AlreadyExistsError(absl::StrCat(
          "model ", staged.model_, " already has version ", version));
    }
  }
  return absl::AbortedError(
      absl::StrCat("other writers took the next version of model ",
                   staged.model_, " ", kMaxCommitAttempts, " times in a row"));
}

absl::Status VersionStore::TakeBack(const StagedVersion& staged,
                                    int64_t version,
                                    const absl::Status& cause) {
  const std::string directory = VersionDirectory(staged.model_, version);
  // The disk is failing: what counts is what is there after the attempt.
  WriteFile(absl::StrCat(directory, kTombstoneSuffix), "").IgnoreError();
  RenameDirectory(directory, staged.directory_).IgnoreError();
  return absl::Status(
      cause.code(),
      absl::StrCat("version ", version, " of model ", staged.model_,
                   IsDirectory(directory)
                       ? " is there, but may be lost in a crash: "
                       : " could not be made durable and was taken back: ",
                   cause.message()));
}

absl::Status VersionStore::Delete(absl::string_view model, int64_t version) {
  POT_RETURN_IF_ERROR(ValidateModelName(model));
  POT_RETURN_IF_ERROR(CheckVersion(version, 1));
  const std::string model_directory = absl::StrCat(root_, "/", model);
  const std::string directory = VersionDirectory(model, version);
  if (!IsDirectory(model_directory) || !IsDirectory(directory)) {
    return absl::NotFoundError(
        absl::StrCat("model ", model, " has no version ", version));
  }
  POT_RETURN_IF_ERROR(WriteFile(absl::StrCat(directory, kTombstoneSuffix), ""));
  const std::string trash = UniquePath(absl::StrCat(root_, "/", kTrash), model);
  POT_RETURN_IF_ERROR(RenameDirectory(directory, trash));
  return RemoveTree(trash);
}

}  // namespace pot
