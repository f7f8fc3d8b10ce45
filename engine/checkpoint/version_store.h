// Versions of models as directories <root>/<model>/<n>/, n = 1, 2, ..; once
// there, a version's files never change.
#ifndef POT_ENGINE_CHECKPOINT_VERSION_STORE_H_
#define POT_ENGINE_CHECKPOINT_VERSION_STORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/checkpoint/manifest.h"

namespace pot {

// A model name is 1 to 64 of [A-Za-z0-9._-] and begins with a letter or a
// digit, so it can never leave the root. INVALID_ARGUMENT says so and shows
// the given name, escaped and cut.
absl::Status ValidateModelName(absl::string_view name);

class VersionStore;

// A directory being filled, invisible to readers; removed when destroyed
// before Commit().
class StagedVersion {
 public:
  ~StagedVersion();
  StagedVersion(StagedVersion&&) noexcept;
  StagedVersion& operator=(StagedVersion&&) = delete;

  // Write files here.
  const std::string& directory() const { return directory_; }

 private:
  friend class VersionStore;
  StagedVersion(std::string directory, std::string model)
      : directory_(std::move(directory)), model_(std::move(model)) {}

  std::string directory_;  // empty once committed or moved from
  std::string model_;
};

// Safe to use from several threads, and from several processes on one root:
// the rename of a version fails rather than replace one.
class VersionStore {
 public:
  // Creates the root when missing; removes what crashed writers left: deleted
  // versions, and staged ones that nobody wrote to for an hour.
  static absl::StatusOr<std::unique_ptr<VersionStore>> Open(
      const std::string& root);

  // Absolute, without links.
  const std::string& root() const { return root_; }

  // Models with at least one version, sorted. Entries that are no model or
  // version directories are ignored, and so are symbolic links.
  absl::StatusOr<std::vector<std::string>> ListModels() const;
  // Ascending; empty when the model is unknown.
  absl::StatusOr<std::vector<int64_t>> ListVersions(
      absl::string_view model) const;
  // Path of a version, which may not exist. Always below the root: a name that
  // ValidateModelName refuses gives a path that never exists.
  std::string VersionDirectory(absl::string_view model, int64_t version) const;

  absl::StatusOr<StagedVersion> Stage(absl::string_view model);

  // Syncs the files, writes the manifest (unless one is there, which is
  // verified), and renames the directory to `version`, or, with 0, to one more
  // than the highest that is or ever was there. Returns the version.
  // ALREADY_EXISTS when that version is there. On any error the staged
  // directory is removed and the version is not there. That holds for a rename
  // that could not be synced, too: it is taken back, and as somebody may have
  // seen the version meanwhile, its number is not handed out again. Should
  // taking it back fail as well, the message says that the version is there.
  absl::StatusOr<int64_t> Commit(StagedVersion staged, int64_t version,
                                 const std::string& tool_version);

  // Renames the version out of sight, then deletes it. NOT_FOUND without it.
  // Its number is not handed out again, so that a reference to it never means
  // other weights. An error other than NOT_FOUND and INVALID_ARGUMENT may come
  // after the rename: the version is then out of sight, and its files are
  // removed by the next Open() at the latest.
  absl::Status Delete(absl::string_view model, int64_t version);

 private:
  explicit VersionStore(std::string root) : root_(std::move(root)) {}
  // Hides the version that `staged` was just renamed to; the error for it.
  absl::Status TakeBack(const StagedVersion& staged, int64_t version,
                        const absl::Status& cause);

  std::string root_;
};

}  // namespace pot

#endif  // POT_ENGINE_CHECKPOINT_VERSION_STORE_H_
