#include "server/training/dataset_store.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <set>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "server/serving/error_details.h"
#include "server/serving/field_errors.h"
#include "server/training/job_files.h"

namespace pot {
namespace {

namespace fs = std::filesystem;

absl::Status Mismatch(absl::string_view what, absl::string_view announced,
                      absl::string_view found) {
  return WithDetails(
      absl::DataLossError(absl::StrCat("the dataset's ", what, " is ", found,
                                       ", announced was ", announced)),
      {.reason = "CHECKSUM_MISMATCH",
       .metadata = {{"limit", std::string(announced)},
                    {"value", std::string(found)}}});
}

absl::Status CheckDiskSpace(const std::string& directory, int64_t bytes,
                            int64_t reserve) {
  struct statvfs info;
  if (statvfs(directory.c_str(), &info) != 0) {
    return absl::ErrnoToStatus(errno, "cannot ask for the free disk space");
  }
  int64_t available = 0;
  if (__builtin_mul_overflow(info.f_bavail, info.f_frsize, &available)) {
    return absl::OkStatus();
  }
  const int64_t limit = std::max<int64_t>(0, available - reserve);
  if (bytes <= limit) return absl::OkStatus();
  return WithDetails(
      absl::ResourceExhaustedError(absl::StrCat(
          bytes,
          " bytes of datasets do not fit on the disk, which has room "
          "for ",
          limit)),
      {.reason = "DISK_BUDGET",
       .metadata = {{"limit", absl::StrCat(limit)},
                    {"value", absl::StrCat(bytes)}}});
}

int64_t FileBytes(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) ? info.st_size
                                                                 : -1;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DatasetStore>> DatasetStore::Open(
    QatJobStore* jobs, DatasetStoreOptions options) {
  POT_RETURN_IF_ERROR(MakeJobDirectories(options.root));
  std::unique_ptr<DatasetStore> store(
      new DatasetStore(jobs, std::move(options)));
  POT_RETURN_IF_ERROR(store->RemoveOrphans());
  return store;
}

absl::Status DatasetStore::RemoveOrphans() {
  POT_ASSIGN_OR_RETURN(const std::vector<v1::Dataset> datasets,
                       jobs_->ListDatasets());
  std::set<std::string> known;
  for (const v1::Dataset& dataset : datasets) known.insert(dataset.sha256());
  std::error_code error;
  std::vector<fs::path> orphans;
  for (fs::directory_iterator entry(DatasetsDirectory(options_.root), error);
       !error && entry != fs::directory_iterator(); entry.increment(error)) {
    if (known.count(entry->path().filename().string()) == 0) {
      orphans.push_back(entry->path());
    }
  }
  for (const fs::path& path : orphans) {
    if (!error) fs::remove_all(path, error);
  }
  return error ? absl::ErrnoToStatus(error.value(),
                                     "cannot tidy up the datasets' directory")
               : absl::OkStatus();
}

std::string DatasetStore::Path(absl::string_view sha256) const {
  return absl::StrCat(DatasetsDirectory(options_.root), "/", sha256);
}

absl::StatusOr<std::optional<v1::Dataset>> DatasetStore::Find(
    absl::string_view sha256) {
  MutexLock lock(&mutex_);
  const absl::StatusOr<v1::Dataset> known = jobs_->GetDataset(sha256);
  if (absl::IsNotFound(known.status())) return std::optional<v1::Dataset>();
  POT_RETURN_IF_ERROR(known.status());
  // Somebody may have removed the file; an upload brings it back.
  if (FileBytes(Path(sha256)) != known->size_bytes()) {
    return std::optional<v1::Dataset>();
  }
  POT_ASSIGN_OR_RETURN(
      v1::Dataset dataset,
      jobs_->AddDataset(sha256, known->name(), known->size_bytes()));
  return std::optional<v1::Dataset>(std::move(dataset));
}

absl::StatusOr<std::unique_ptr<DatasetUpload>> DatasetStore::Begin(
    absl::string_view sha256, absl::string_view name, int64_t size_bytes) {
  if (size_bytes > options_.max_bytes) {
    return WithDetails(
        absl::ResourceExhaustedError(absl::StrCat(
            "the dataset has ", size_bytes, " bytes, more than the limit of ",
            options_.max_bytes)),
        {.reason = "UPLOAD_TOO_LARGE",
         .metadata = {{"limit", absl::StrCat(options_.max_bytes)},
                      {"value", absl::StrCat(size_bytes)}},
         .field = "header.size_bytes"});
  }
  std::unique_ptr<DatasetUpload> upload;
  {
    MutexLock lock(&mutex_);
    // Neither sum overflows: each term is far below 2^62 bytes.
    POT_RETURN_IF_ERROR(CheckDiskSpace(DatasetsDirectory(options_.root),
                                       reserved_bytes_ + size_bytes,
                                       options_.disk_reserve_bytes));
    reserved_bytes_ += size_bytes;
    upload.reset(new DatasetUpload(this, std::string(sha256), std::string(name),
                                   size_bytes));
  }
  POT_RETURN_IF_ERROR(upload->Open());
  return upload;
}

absl::Status DatasetStore::RemoveUnused() {
  MutexLock lock(&mutex_);
  POT_ASSIGN_OR_RETURN(const std::vector<std::string> removed,
                       jobs_->RemoveUnusedDatasets(options_.unused_age));
  absl::Status result;
  for (const std::string& sha256 : removed) {
    if (unlink(Path(sha256).c_str()) != 0 && errno != ENOENT) {
      // The next Open() tries again.
      result.Update(DiskError(errno, "cannot remove the dataset"));
    }
  }
  return result;
}

void DatasetStore::Release(int64_t bytes) {
  MutexLock lock(&mutex_);
  reserved_bytes_ -= bytes;
}

absl::Status DatasetUpload::Open() {
  std::string path = store_->Path(".upload-XXXXXX");
  fd_ = mkostemp(path.data(), O_CLOEXEC);
  if (fd_ < 0) return DiskError(errno, "cannot make the dataset");
  staged_ = path;
  return fchmod(fd_, 0644) == 0 ? absl::OkStatus()
                                : DiskError(errno, "cannot make the dataset");
}

DatasetUpload::~DatasetUpload() {
  if (fd_ >= 0) close(fd_);
  if (!staged_.empty()) unlink(staged_.c_str());
  store_->Release(size_bytes_);
}

absl::Status DatasetUpload::CheckUtf8(absl::string_view data) {
  const int64_t begin = written_ - static_cast<int64_t>(incomplete_.size());
  incomplete_.append(data.data(), data.size());
  const absl::string_view complete =
      absl::string_view(incomplete_).substr(0, CompleteUtf8Prefix(incomplete_));
  const size_t invalid = FindInvalidUtf8(complete);
  if (invalid != complete.size()) {
    const std::string offset =
        absl::StrCat(begin + static_cast<int64_t>(invalid));
    return FieldError("INVALID_UTF8", "data",
                      absl::StrCat("is not UTF-8: byte ", offset,
                                   " of the dataset begins no valid sequence"),
                      "", offset);
  }
  incomplete_.erase(0, complete.size());
  return absl::OkStatus();
}

absl::Status DatasetUpload::Append(absl::string_view data) {
  const int64_t total = written_ + static_cast<int64_t>(data.size());
  if (total > size_bytes_) {
    return Mismatch("size", absl::StrCat(size_bytes_),
                    absl::StrCat("at least ", total));
  }
  POT_RETURN_IF_ERROR(CheckUtf8(data));
  digest_.Update(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(data.data()), data.size()));
  if (const int error = WriteFully(fd_, data); error != 0) {
    return DiskError(error, "cannot write the dataset");
  }
  written_ = total;
  return absl::OkStatus();
}

absl::StatusOr<v1::Dataset> DatasetUpload::Finish() {
  if (written_ != size_bytes_) {
    return Mismatch("size", absl::StrCat(size_bytes_), absl::StrCat(written_));
  }
  if (!incomplete_.empty()) {
    const std::string offset =
        absl::StrCat(written_ - static_cast<int64_t>(incomplete_.size()));
    return FieldError("INVALID_UTF8", "data",
                      absl::StrCat("is not UTF-8: the dataset ends inside the "
                                   "character that begins at byte ",
                                   offset),
                      "", offset);
  }
  const std::string found = digest_.HexDigest();
  if (found != sha256_) return Mismatch("SHA-256", sha256_, found);
  if (fsync(fd_) != 0) return DiskError(errno, "cannot sync the dataset");
  if (close(std::exchange(fd_, -1)) != 0) {
    return DiskError(errno, "cannot write the dataset");
  }
  MutexLock lock(&store_->mutex_);
  if (rename(staged_.c_str(), store_->Path(sha256_).c_str()) != 0) {
    return DiskError(errno, "cannot rename the dataset");
  }
  staged_.clear();
  POT_RETURN_IF_ERROR(SyncDirectory(DatasetsDirectory(store_->options_.root)));
  return store_->jobs_->AddDataset(sha256_, name_, size_bytes_);
}

}  // namespace pot
