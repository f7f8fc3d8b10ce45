// Training snapshots: named tensors and strings in one checked file, from which
// a killed run goes on.
//
//   <directory>/step-<n>/snapshot.safetensors
//
// Every tensor is checksummed in pieces of 4 MiB (XXH64), and the list of
// names, types, shapes, checksums and metadata again, so that a cut file and a
// changed byte are refused. Replacing the file is one rename: whenever the
// process is killed, what was there before is whole.
//
// One process at a time writes to a directory.
#ifndef POT_TRAINER_SNAPSHOT_SNAPSHOT_H_
#define POT_TRAINER_SNAPSHOT_SNAPSHOT_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/file.h"
#include "engine/checkpoint/safetensors.h"

namespace pot {

using SnapshotMetadata = std::map<std::string, std::string>;
using SnapshotTensors = std::vector<std::pair<std::string, TensorView>>;

// Views of the caller's memory as tensors of one dimension.
TensorView ViewOf(absl::Span<const float> values);
TensorView ViewOf(absl::Span<const int64_t> values);
TensorView ViewOf(absl::Span<const uint8_t> values);

// Where to read a tensor to: the type and shape it must have, and exactly its
// bytes.
struct SnapshotTarget {
  std::string name;
  TensorType type = TensorType::kF32;
  std::vector<int64_t> shape;
  absl::Span<uint8_t> bytes;
};
SnapshotTarget TargetOf(std::string name, absl::Span<float> values);
SnapshotTarget TargetOf(std::string name, absl::Span<int64_t> values);
SnapshotTarget TargetOf(std::string name, absl::Span<uint8_t> values);

// Writes `directory`/step-<step>/snapshot.safetensors, straight from the views,
// and syncs it; makes `directory` (its parent must exist) and replaces a
// snapshot of the same step. Returns the path of the file. Keys of `metadata`
// must not begin with "snapshot."; those are the writer's own. INVALID_ARGUMENT
// for a negative step and what safetensors cannot hold. After an error the
// snapshots are as before.
absl::StatusOr<std::string> WriteSnapshot(const std::string& directory,
                                          int64_t step,
                                          const SnapshotTensors& tensors,
                                          const SnapshotMetadata& metadata);

// An opened snapshot: its header in memory, its tensors still in the file.
class Snapshot {
 public:
  // `path`: the file itself, or its step directory. Checks header, length and
  // the checksum over names, shapes and metadata. NOT_FOUND without the file;
  // DATA_LOSS, naming path and reason, for anything damaged.
  static absl::StatusOr<Snapshot> Open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  int64_t step() const { return step_; }
  // As given to WriteSnapshot.
  const SnapshotMetadata& metadata() const { return metadata_; }
  const std::map<std::string, SafetensorsHeader::Tensor>& tensors() const {
    return header_.tensors;
  }

  // Reads every tensor of the file into the target of its name, without a copy
  // in between, and checks it. FAILED_PRECONDITION, naming the tensor, when the
  // targets are not those of the file in name, type and shape; nothing was read
  // then. DATA_LOSS when a checksum is wrong: targets then hold garbage.
  absl::Status Read(absl::Span<const SnapshotTarget> targets) const;

  // Checks every tensor, in a buffer of 4 MiB.
  absl::Status Verify() const;

 private:
  Snapshot(ForeignFile file, SafetensorsHeader header)
      : file_(std::move(file)), header_(std::move(header)) {}

  absl::Status ReadTensor(const std::string& name,
                          absl::Span<uint8_t> bytes) const;

  ForeignFile file_;
  SafetensorsHeader header_;
  SnapshotMetadata metadata_;
  int64_t step_ = 0;
};

// Open() and Read() at once.
absl::Status ReadSnapshot(const std::string& path,
                          absl::Span<const SnapshotTarget> targets,
                          SnapshotMetadata* metadata);

// The snapshot of the highest step that Verify() accepts. Why others were
// passed over is appended to `warnings`, which may be null. NOT_FOUND when
// there is none, or no directory.
absl::StatusOr<Snapshot> LatestSnapshot(const std::string& directory,
                                        std::vector<std::string>* warnings);

// Deletes all but the `keep` (at least 1) highest steps among the snapshots
// that Open() accepts, and what broken writes left behind. Keep two: the one
// before the last is the way back when the last is damaged later.
absl::Status PruneSnapshots(const std::string& directory, int64_t keep);

}  // namespace pot

#endif  // POT_TRAINER_SNAPSHOT_SNAPSHOT_H_
