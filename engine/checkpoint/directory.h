// What the model directories need of the file system beyond single files.
// Nothing here follows a symbolic link.
#ifndef POT_ENGINE_CHECKPOINT_DIRECTORY_H_
#define POT_ENGINE_CHECKPOINT_DIRECTORY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace pot {

struct DirectoryEntry {
  enum class Kind { kFile, kDirectory, kOther };

  std::string name;
  Kind kind = Kind::kOther;  // a symbolic link is kOther
  int64_t bytes = 0;
  absl::Time modified;
};

// Entries but "." and "..", sorted by name. NOT_FOUND when there is no such
// directory. An entry that vanishes meanwhile is left out.
absl::StatusOr<std::vector<DirectoryEntry>> ListDirectory(
    const std::string& path);

// Whether `path` is a directory itself, not a link to one.
bool IsDirectory(const std::string& path);

// mkdir; true when the directory was made, false when it was there.
// FAILED_PRECONDITION when something else has the name.
absl::StatusOr<bool> MakeDirectory(const std::string& path);

// fsyncs one regular file.
absl::Status SyncFile(const std::string& path);

// Deletes a directory and all below it; links in it, not what they point to.
// OK when there is nothing of that name.
absl::Status RemoveTree(const std::string& path);

}  // namespace pot

#endif  // POT_ENGINE_CHECKPOINT_DIRECTORY_H_
