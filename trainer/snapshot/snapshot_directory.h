// Names and leftovers in a directory of snapshots.
#ifndef POT_TRAINER_SNAPSHOT_SNAPSHOT_DIRECTORY_H_
#define POT_TRAINER_SNAPSHOT_SNAPSHOT_DIRECTORY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace pot {

// `directory`/step-<step>.
std::string StepDirectory(const std::string& directory, int64_t step);
// `step_directory`/snapshot.safetensors.
std::string SnapshotFile(const std::string& step_directory);

// The steps of the subdirectories step-<n>, highest first, whatever is in them.
// NOT_FOUND without the directory.
absl::StatusOr<std::vector<int64_t>> ListSteps(const std::string& directory);

// Of an unfinished write; errors are ignored.
void RemoveIfEmpty(const std::string& step_directory);

}  // namespace pot

#endif  // POT_TRAINER_SNAPSHOT_SNAPSHOT_DIRECTORY_H_
