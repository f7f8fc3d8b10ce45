// Files that workers send in pieces, over connections that break.
//
// <jobs>/<job_id>/uploads/<upload_id>/header     what was announced
// <jobs>/<job_id>/uploads/<upload_id>/files/     what has come of it
//
// Nothing else of the server looks there. Files become visible all at once, by
// the rename of files/ to its final place.
#ifndef POT_SERVER_TRAINING_UPLOAD_STORE_H_
#define POT_SERVER_TRAINING_UPLOAD_STORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/mutex.h"
#include "pot/v1/worker.pb.h"
#include "server/training/upload_header.h"

namespace pot {

inline constexpr int64_t kMaxTransferBytes = int64_t{1} << 20;  // of a chunk
// Of one job at the same time.
inline constexpr int64_t kMaxOpenUploads = 8;

// The next byte to send: the first one that is missing.
struct UploadPosition {
  int file_index = 0;  // the number of files when nothing is missing
  int64_t offset = 0;
  bool complete = false;
};

struct UploadStoreOptions {
  // Of all jobs; exists.
  std::string jobs_directory;
  // Of one upload, all files together.
  int64_t max_bytes = int64_t{16} << 30;
  // Refuses that many bytes more. Unset: never.
  std::function<absl::Status(int64_t)> check_disk_space;
};

class UploadStore;

// An upload that takes chunks. Opening the same upload again takes it over:
// from then on this one is ABORTED. One thread at a time.
class Upload {
 public:
  ~Upload();
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;

  const v1::UploadHeader& header() const { return header_; }
  const UploadPosition& position() const { return position_; }

  // Writes the chunk, which must begin at position(). INVALID_ARGUMENT for
  // another place or size, DATA_LOSS (CHECKSUM_MISMATCH) when the CRC is wrong:
  // nothing is written then and the upload can go on.
  absl::Status Append(const v1::TransferChunk& chunk);

  // Checks every digest and syncs every file; takes as long as reading them.
  // INVALID_ARGUMENT while something is missing. DATA_LOSS (CHECKSUM_MISMATCH):
  // the wrong file and those after it are removed and have to be sent again.
  absl::Status Verify();

  // Where the files are until Publish().
  std::string files_directory() const;
  // Renames the verified files to the directory `to`, whose parent is made, and
  // forgets the upload. ALREADY_EXISTS when `to` is there.
  absl::Status Publish(const std::string& to);
  // Removes everything.
  absl::Status Discard();

 private:
  friend class UploadStore;
  // Who may write; shared with the store.
  struct Turn {
    Mutex mutex;
    bool taken_over ABSL_GUARDED_BY(mutex) = false;
    bool verifying ABSL_GUARDED_BY(mutex) = false;
  };

  Upload(std::string directory, v1::UploadHeader header,
         std::shared_ptr<Turn> turn);
  absl::Status CheckTurn() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(turn_->mutex);
  std::string Path(int file_index) const;
  // Makes files without bytes and finds the position on disk.
  absl::Status FindPosition();
  absl::Status CheckPlace(const v1::TransferChunk& chunk) const;
  absl::Status Write(const v1::TransferChunk& chunk);
  absl::Status VerifyFiles();

  const std::string directory_;
  const v1::UploadHeader header_;
  const std::shared_ptr<Turn> turn_;
  UploadPosition position_;
  int fd_ = -1;  // of the file at position_, when open
};

// Thread-safe.
class UploadStore {
 public:
  explicit UploadStore(UploadStoreOptions options)
      : options_(std::move(options)) {}

  // Begins an upload, or goes on with one: under the same epoch the header must
  // be the same (INVALID_ARGUMENT); under another, another header begins anew
  // and uploads of earlier epochs are removed.
  // INVALID_ARGUMENT for names and sizes outside of their limits,
  // RESOURCE_EXHAUSTED (UPLOAD_TOO_LARGE, DISK_BUDGET), UNAVAILABLE while the
  // files of the same upload are being verified.
  absl::StatusOr<std::unique_ptr<Upload>> Open(UploadKind kind,
                                               const v1::UploadHeader& header);

  // What is on disk; 0, 0 for an unknown upload. INVALID_ARGUMENT for an
  // identifier that none can have.
  absl::StatusOr<UploadPosition> Find(absl::string_view job_id,
                                      absl::string_view upload_id);

  // Removes, below the jobs for which `keep_uploads` is false, every upload,
  // and below the others those whose header cannot be read. Errors are left
  // for the next time.
  void Sweep(
      const std::function<bool(const std::string& job_id)>& keep_uploads);

 private:
  std::string Directory(absl::string_view job_id,
                        absl::string_view upload_id) const;
  // Removes the job's uploads of earlier epochs. RESOURCE_EXHAUSTED when there
  // are kMaxOpenUploads others.
  absl::Status RemoveOlder(const v1::UploadHeader& header) const;
  // Ends the turn of whoever has the upload now.
  absl::StatusOr<std::shared_ptr<Upload::Turn>> TakeOver(
      const std::string& directory);

  const UploadStoreOptions options_;
  // Held while directories are made and removed.
  Mutex opening_;
  Mutex mutex_;
  std::map<std::string, std::weak_ptr<Upload::Turn>> turns_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace pot

#endif  // POT_SERVER_TRAINING_UPLOAD_STORE_H_
