#ifndef POT_ENGINE_HUB_HUB_CACHE_H_
#define POT_ENGINE_HUB_HUB_CACHE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/hub/hub_id.h"

namespace pot {

// One model's part of a cache with huggingface_hub's layout, which may be one
// that huggingface_hub uses, too:
//
//   models--OWNER--NAME/blobs/DIGEST             a file's content
//   models--OWNER--NAME/blobs/DIGEST.incomplete  its beginning
//   models--OWNER--NAME/snapshots/COMMIT/FILE    a link to ../../blobs/DIGEST
//   models--OWNER--NAME/refs/REVISION            a commit
//   .locks/models--OWNER--NAME/DIGEST.lock       held by who writes the blob
//
// A name without ".incomplete" is given to whole, checked files alone.
class HubCache {
 public:
  // `root` need not exist.
  HubCache(const std::string& root, const HubId& id);

  // Makes the directories, for `commit`, too.
  absl::Status Prepare(const std::string& commit) const;

  std::string SnapshotDirectory(const std::string& commit) const;
  std::string BlobPath(const std::string& digest) const;
  std::string PartialPath(const std::string& digest) const;
  std::string LockPath(const std::string& digest) const;

  // The commit that `revision` was when it was last asked for; NOT_FOUND.
  absl::StatusOr<std::string> ReadRef(const std::string& revision) const;
  absl::Status WriteRef(const std::string& revision,
                        const std::string& commit) const;

  // Makes `file` of the commit's snapshot a link to the blob.
  absl::Status Link(const std::string& commit, const std::string& file,
                    const std::string& digest) const;
  // The digest that `file` links to; NOT_FOUND without one.
  absl::StatusOr<std::string> LinkedDigest(const std::string& commit,
                                           const std::string& file) const;

 private:
  const std::string root_;
  const std::string directory_;
  const std::string locks_;
};

// 64 hexadecimal digits (SHA-256) or 40 (git's SHA-1 of a blob), lower case.
bool IsFileDigest(const std::string& text);

// Whether the content of `path` has this digest, of either kind.
absl::StatusOr<bool> HasDigest(const std::string& path,
                               const std::string& digest);

}  // namespace pot

#endif  // POT_ENGINE_HUB_HUB_CACHE_H_
