// Uploaded texts by their SHA-256.
#ifndef POT_SERVER_TRAINING_DATASET_STORE_H_
#define POT_SERVER_TRAINING_DATASET_STORE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "engine/base/sha256.h"
#include "pot/v1/training.pb.h"
#include "server/training/qat_job_store.h"

namespace pot {

struct DatasetStoreOptions {
  std::string root;  // as in job_files.h
  // Of one text.
  int64_t max_bytes = int64_t{4} << 30;
  // An upload is refused when it would leave less than this of the disk.
  int64_t disk_reserve_bytes = int64_t{1} << 30;
  // For which a text without a job is kept after its last use.
  absl::Duration unused_age = absl::Hours(7 * 24);
};

class DatasetUpload;

// Files below <root>/datasets, whose rows are in QatJobStore: a row is there
// only while the whole file is. Thread-safe.
class DatasetStore {
 public:
  // `jobs` outlives this. Removes partial uploads and files without a row,
  // which a crash left.
  static absl::StatusOr<std::unique_ptr<DatasetStore>> Open(
      QatJobStore* jobs, DatasetStoreOptions options);

  // The text, if it is there already, counted as used now.
  absl::StatusOr<std::optional<v1::Dataset>> Find(absl::string_view sha256);

  // Room for a text of `size_bytes`, at least 1. RESOURCE_EXHAUSTED
  // (UPLOAD_TOO_LARGE, or DISK_BUDGET with all uploads that are going on).
  absl::StatusOr<std::unique_ptr<DatasetUpload>> Begin(absl::string_view sha256,
                                                       absl::string_view name,
                                                       int64_t size_bytes);

  // Of a text that Find() or an upload gave.
  std::string Path(absl::string_view sha256) const;

  // Removes texts that no job has used for the configured time.
  absl::Status RemoveUnused();

 private:
  friend class DatasetUpload;
  DatasetStore(QatJobStore* jobs, DatasetStoreOptions options)
      : jobs_(jobs), options_(std::move(options)) {}
  absl::Status RemoveOrphans();
  // Of an upload that has ended either way.
  void Release(int64_t bytes);

  QatJobStore* const jobs_;
  const DatasetStoreOptions options_;
  // Held where a file and its row come or go together.
  Mutex mutex_;
  int64_t reserved_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

// One text on its way to disk; vanishes with this object unless finished. After
// an error there is no further call. One thread at a time.
class DatasetUpload {
 public:
  ~DatasetUpload();
  DatasetUpload(const DatasetUpload&) = delete;
  DatasetUpload& operator=(const DatasetUpload&) = delete;

  // DATA_LOSS (CHECKSUM_MISMATCH) beyond the announced size, INVALID_ARGUMENT
  // (INVALID_UTF8) with the offset of a byte that begins no character,
  // RESOURCE_EXHAUSTED (DISK_BUDGET).
  absl::Status Append(absl::string_view data);

  // Synced, renamed and stored. DATA_LOSS when size or digest are not the
  // announced ones, INVALID_ARGUMENT when the text ends inside a character.
  absl::StatusOr<v1::Dataset> Finish();

 private:
  friend class DatasetStore;
  DatasetUpload(DatasetStore* store, std::string sha256, std::string name,
                int64_t size_bytes)
      : store_(store),
        sha256_(std::move(sha256)),
        name_(std::move(name)),
        size_bytes_(size_bytes) {}
  absl::Status Open();
  absl::Status CheckUtf8(absl::string_view data);

  DatasetStore* const store_;
  const std::string sha256_;
  const std::string name_;
  const int64_t size_bytes_;
  std::string staged_;  // path; empty: none
  int fd_ = -1;
  int64_t written_ = 0;
  std::string incomplete_;  // bytes that may begin a character
  Sha256 digest_;
};

}  // namespace pot

#endif  // POT_SERVER_TRAINING_DATASET_STORE_H_
