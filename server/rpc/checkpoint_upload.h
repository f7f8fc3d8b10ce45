// The files of a RegisterCheckpoint stream on their way to disk.
#ifndef POT_SERVER_RPC_CHECKPOINT_UPLOAD_H_
#define POT_SERVER_RPC_CHECKPOINT_UPLOAD_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/sha256.h"
#include "engine/checkpoint/version_store.h"
#include "pot/v1/model.pb.h"
#include "server/serving/model_repository.h"

namespace pot {

inline constexpr int kMaxUploadFiles = 64;
inline constexpr int64_t kMaxUploadChunkBytes = int64_t{1} << 20;
// What a client may call a file.
inline constexpr size_t kMaxUploadNameBytes = 128;

// Takes the messages of one stream in turn and writes the chunks into a staged
// directory, which vanishes with this object. After an error there is no
// further call. One thread at a time.
class CheckpointUpload {
 public:
  // `max_bytes` of all files together.
  CheckpointUpload(ModelRepository* repository, int64_t max_bytes);
  ~CheckpointUpload();

  // INVALID_ARGUMENT for what model.proto rules out, RESOURCE_EXHAUSTED
  // (UPLOAD_TOO_LARGE, DISK_BUDGET), ALREADY_EXISTS (VERSION_EXISTS),
  // DATA_LOSS (CHECKSUM_MISMATCH).
  absl::Status Add(const v1::RegisterCheckpointRequest& message);

  // INVALID_ARGUMENT unless the header and every byte have come.
  absl::StatusOr<StagedVersion> Complete();

  // Once there.
  const v1::CheckpointHeader& header() const { return header_; }

 private:
  absl::Status Begin(const v1::CheckpointHeader& header);
  absl::Status CheckFiles(const v1::CheckpointHeader& header) const;
  absl::Status Append(const v1::FileChunk& chunk);
  // Opens the file at `index_`, and goes past files without a byte.
  absl::Status OpenNext();
  absl::Status CloseFile();
  const v1::FileInfo& file() const { return header_.files(index_); }

  ModelRepository* const repository_;
  const int64_t max_bytes_;
  v1::CheckpointHeader header_;
  std::optional<StagedVersion> staged_;
  int index_ = 0;  // file that is being written
  int64_t offset_ = 0;
  int fd_ = -1;
  std::unique_ptr<Sha256> digest_;
};

}  // namespace pot

#endif  // POT_SERVER_RPC_CHECKPOINT_UPLOAD_H_
