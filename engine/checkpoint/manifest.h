// manifest.json of a model version: every file's size and SHA-256. The
// manifest's own SHA-256 therefore identifies the whole version.
#ifndef POT_ENGINE_CHECKPOINT_MANIFEST_H_
#define POT_ENGINE_CHECKPOINT_MANIFEST_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pot {

inline constexpr char kManifestFile[] = "manifest.json";

struct ManifestEntry {
  int64_t bytes = 0;
  std::string sha256;
};

struct Manifest {
  std::map<std::string, ManifestEntry> files;  // by name, no directories
  int64_t created_unix_seconds = 0;
  std::string tool_version;
  // What identifies the version: SHA-256 of manifest.json's bytes. Set by
  // ReadManifest and WriteManifest.
  std::string digest;

  int64_t total_bytes() const;
};

// Digests every file in `directory`, writes manifest.json and fsyncs it and
// the directory. INVALID_ARGUMENT for a directory without files, with a
// subdirectory or a link, or with a file name that ReadManifest would refuse.
absl::StatusOr<Manifest> WriteManifest(const std::string& directory,
                                       int64_t created_unix_seconds,
                                       const std::string& tool_version);

// Reads manifest.json. NOT_FOUND without one. File names with a slash or
// control character, or beginning with a dot, are INVALID_ARGUMENT.
absl::StatusOr<Manifest> ReadManifest(const std::string& directory);

// Reads every file again, manifest.json too. DATA_LOSS, naming file, expected
// and found digest or size; also for a file that the manifest does not list.
absl::Status VerifyManifest(const std::string& directory,
                            const Manifest& manifest);

}  // namespace pot

#endif  // POT_ENGINE_CHECKPOINT_MANIFEST_H_
