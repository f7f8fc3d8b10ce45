// What a version's directory says of itself.
#ifndef POT_SERVER_SERVING_VERSION_DESCRIPTION_H_
#define POT_SERVER_SERVING_VERSION_DESCRIPTION_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/manifest.h"
#include "engine/gpt2/model_weights.h"
#include "server/serving/model_version.h"

namespace pot {

struct VersionDescription {
  // All but name, version, state and aliases.
  ModelVersionInfo info;
  Manifest manifest;
  // The weights in memory take at least this.
  int64_t min_resident_bytes = 0;
};

// Reads manifest, config and the weights' headers, not the weights. DATA_LOSS
// (CORRUPT_CHECKPOINT) when one is missing or malformed or a tensor has the
// wrong shape.
absl::StatusOr<VersionDescription> DescribeVersion(const std::string& directory,
                                                   const LoadOptions& options);

// Compares every file with the manifest: DATA_LOSS, CHECKSUM_MISMATCH with both
// digests where a file has another content, else CORRUPT_CHECKPOINT.
absl::Status VerifyFiles(const std::string& directory,
                         const Manifest& manifest);

// What reading a checkpoint went wrong with, as serving reports it: files that
// were published and cannot be read are DATA_LOSS (CORRUPT_CHECKPOINT);
// RESOURCE_EXHAUSTED becomes MEMORY_BUDGET.
absl::Status CheckpointError(const absl::Status& status);

}  // namespace pot

#endif  // POT_SERVER_SERVING_VERSION_DESCRIPTION_H_
