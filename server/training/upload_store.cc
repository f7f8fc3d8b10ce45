#include "server/training/upload_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/crc32c.h"
#include "engine/base/file.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/directory.h"
#include "server/serving/error_details.h"
#include "server/serving/field_errors.h"
#include "server/training/upload_header.h"

namespace pot {
namespace {

absl::Status Invalid(const std::string& field, absl::string_view complaint,
                     const std::string& limit, const std::string& value) {
  return FieldError("INVALID_FIELD", field, complaint, limit, value);
}

absl::Status ChecksumMismatch(const std::string& message,
                              const std::string& expected,
                              const std::string& found) {
  return WithDetails(absl::DataLossError(message),
                     {.reason = "CHECKSUM_MISMATCH",
                      .metadata = {{"limit", expected}, {"value", found}}});
}

absl::Status MakeDirectories(const std::string& jobs, absl::string_view job,
                             absl::string_view name) {
  const std::string job_directory = absl::StrCat(jobs, "/", job);
  POT_RETURN_IF_ERROR(MakeDirectory(job_directory).status());
  return MakeDirectory(absl::StrCat(job_directory, "/", name)).status();
}

// Bytes of a regular file; -1 when there is none.
int64_t SizeOf(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return -1;
  return info.st_size;
}

// The first file that is not as long as announced. One that is longer cannot
// have come from here and starts again.
UploadPosition PositionIn(const std::string& files,
                          const v1::UploadHeader& header) {
  UploadPosition position;
  for (const v1::StoredFile& file : header.files()) {
    const int64_t size = SizeOf(absl::StrCat(files, "/", file.path()));
    if (size != file.size_bytes()) {
      position.offset =
          size < 0 || size > file.size_bytes() ? int64_t{0} : size;
      return position;
    }
    ++position.file_index;
  }
  position.complete = true;
  return position;
}

}  // namespace

Upload::Upload(std::string directory, v1::UploadHeader header,
               std::shared_ptr<Turn> turn)
    : directory_(std::move(directory)),
      header_(std::move(header)),
      turn_(std::move(turn)) {}

Upload::~Upload() {
  if (fd_ >= 0) close(fd_);
}

absl::Status Upload::CheckTurn() const {
  if (!turn_->taken_over) return absl::OkStatus();
  return absl::AbortedError(
      absl::StrCat("another call goes on with upload ", header_.upload_id()));
}

std::string Upload::files_directory() const {
  return absl::StrCat(directory_, "/files");
}

std::string Upload::Path(int file_index) const {
  return absl::StrCat(files_directory(), "/", header_.files(file_index).path());
}

absl::Status Upload::FindPosition() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
  while (true) {
    position_ = PositionIn(files_directory(), header_);
    if (position_.complete) return absl::OkStatus();
    const v1::StoredFile& file = header_.files(position_.file_index);
    int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
    if (position_.offset == 0) flags |= O_TRUNC;
    fd_ = open(Path(position_.file_index).c_str(), flags, 0644);
    if (fd_ < 0) {
      return absl::ErrnoToStatus(errno, "cannot make the uploaded file");
    }
    if (file.size_bytes() > 0) return absl::OkStatus();
    close(std::exchange(fd_, -1));
  }
}

absl::Status Upload::CheckPlace(const v1::TransferChunk& chunk) const {
  POT_RETURN_IF_ERROR(
      CheckBytes("chunk.data", chunk.data(), 1, kMaxTransferBytes));
  if (position_.complete) {
    return Invalid("chunk.file_index", "comes after the last byte of all files",
                   absl::StrCat(header_.files_size() - 1),
                   absl::StrCat(chunk.file_index()));
  }
  if (chunk.file_index() != static_cast<uint32_t>(position_.file_index)) {
    return Invalid("chunk.file_index",
                   absl::StrCat("must be ", position_.file_index,
                                ", the first file of which bytes are missing; "
                                "it is ",
                                chunk.file_index()),
                   absl::StrCat(position_.file_index),
                   absl::StrCat(chunk.file_index()));
  }
  if (chunk.offset() != position_.offset) {
    return Invalid(
        "chunk.offset",
        absl::StrCat("must be ", position_.offset, ", the bytes of file ",
                     position_.file_index, " so far; it is ", chunk.offset()),
        absl::StrCat(position_.offset), absl::StrCat(chunk.offset()));
  }
  const int64_t left =
      header_.files(position_.file_index).size_bytes() - position_.offset;
  const auto size = static_cast<int64_t>(chunk.data().size());
  if (size > left) {
    return Invalid("chunk.data",
                   absl::StrCat("has ", size, " bytes, but file ",
                                position_.file_index, " lacks only ", left),
                   absl::StrCat(left), absl::StrCat(size));
  }
  return absl::OkStatus();
}

absl::Status Upload::Write(const v1::TransferChunk& chunk) {
  if (const int error = WriteFullyAt(fd_, chunk.data(), &position_.offset);
      error != 0) {
    return DiskError(error, "cannot write the uploaded file");
  }
  return absl::OkStatus();
}

absl::Status Upload::Append(const v1::TransferChunk& chunk) {
  POT_RETURN_IF_ERROR(CheckPlace(chunk));
  const uint32_t crc = Crc32c(
      absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(chunk.data().data()),
                          chunk.data().size()));
  if (crc != chunk.crc32c()) {
    return ChecksumMismatch(
        absl::StrCat("CRC-32C of the chunk at offset ", chunk.offset(),
                     " of file ", chunk.file_index(), " is ", absl::Hex(crc),
                     ", announced was ", absl::Hex(chunk.crc32c())),
        absl::StrCat(chunk.crc32c()), absl::StrCat(crc));
  }
  MutexLock lock(&turn_->mutex);
  POT_RETURN_IF_ERROR(CheckTurn());
  POT_RETURN_IF_ERROR(Write(chunk));
  const bool whole =
      position_.offset == header_.files(position_.file_index).size_bytes();
  return whole ? FindPosition() : absl::OkStatus();
}

absl::Status Upload::VerifyFiles() {
  for (int i = 0; i < header_.files_size(); ++i) {
    const v1::StoredFile& file = header_.files(i);
    POT_ASSIGN_OR_RETURN(const std::string found, Sha256File(Path(i)));
    if (found != file.sha256()) {
      for (int j = i; j < header_.files_size(); ++j) unlink(Path(j).c_str());
      return ChecksumMismatch(
          absl::StrCat("SHA-256 of the uploaded file ", file.path(), " is ",
                       found, ", announced was ", file.sha256()),
          file.sha256(), found);
    }
    POT_RETURN_IF_ERROR(SyncFile(Path(i)));
  }
  return SyncDirectory(files_directory());
}

absl::Status Upload::Verify() {
  {
    MutexLock lock(&turn_->mutex);
    POT_RETURN_IF_ERROR(CheckTurn());
    if (!position_.complete) {
      return WithDetails(
          absl::InvalidArgumentError(absl::StrCat(
              "the stream ended at byte ", position_.offset, " of ",
              header_.files(position_.file_index).size_bytes(), " of file ",
              position_.file_index)),
          {.reason = "MISSING_FIELD", .field = "chunk"});
    }
    turn_->verifying = true;
  }
  const absl::Status status = VerifyFiles();
  MutexLock lock(&turn_->mutex);
  turn_->verifying = false;
  return status;
}

absl::Status Upload::Publish(const std::string& to) {
  MutexLock lock(&turn_->mutex);
  POT_RETURN_IF_ERROR(CheckTurn());
  turn_->taken_over = true;
  const size_t slash = to.rfind('/');
  POT_RETURN_IF_ERROR(MakeDirectory(to.substr(0, slash)).status());
  POT_RETURN_IF_ERROR(RenameDirectory(files_directory(), to));
  // What is left is of no use to anyone and goes with the next sweep.
  RemoveTree(directory_).IgnoreError();
  return absl::OkStatus();
}

absl::Status Upload::Discard() {
  MutexLock lock(&turn_->mutex);
  POT_RETURN_IF_ERROR(CheckTurn());
  turn_->taken_over = true;
  return RemoveTree(directory_);
}

std::string UploadStore::Directory(absl::string_view job_id,
                                   absl::string_view upload_id) const {
  return absl::StrCat(options_.jobs_directory, "/", job_id, "/uploads/",
                      upload_id);
}

absl::StatusOr<std::shared_ptr<Upload::Turn>> UploadStore::TakeOver(
    const std::string& directory) {
  MutexLock lock(&mutex_);
  std::weak_ptr<Upload::Turn>& turn = turns_[directory];
  if (const std::shared_ptr<Upload::Turn> present = turn.lock()) {
    MutexLock turn_lock(&present->mutex);
    if (present->verifying) {
      return WithDetails(
          absl::UnavailableError("the upload is just being verified"),
          {.retry_after = absl::Seconds(1)});
    }
    present->taken_over = true;
  }
  auto next = std::make_shared<Upload::Turn>();
  turn = next;
  // Those that are over need no entry.
  for (auto entry = turns_.begin(); entry != turns_.end();) {
    entry = entry->second.expired() ? turns_.erase(entry) : std::next(entry);
  }
  return next;
}

absl::Status UploadStore::RemoveOlder(const v1::UploadHeader& header) const {
  const std::string uploads = Directory(header.lease().job_id(), "");
  POT_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries,
                       ListDirectory(uploads));
  int64_t left = 0;
  for (const DirectoryEntry& entry : entries) {
    const std::string directory = absl::StrCat(uploads, entry.name);
    UploadKind kind;
    const auto known = ReadUploadHeader(directory, &kind);
    if (known.ok() && known->lease().epoch() >= header.lease().epoch()) {
      ++left;
    } else {
      POT_RETURN_IF_ERROR(RemoveTree(directory));
    }
  }
  if (left < kMaxOpenUploads) return absl::OkStatus();
  return WithDetails(
      absl::ResourceExhaustedError(
          absl::StrCat("the job has ", left,
                       " unfinished uploads; the limit is ", kMaxOpenUploads)),
      {.reason = "UPLOAD_TOO_LARGE",
       .metadata = {{"limit", absl::StrCat(kMaxOpenUploads)},
                    {"value", absl::StrCat(left)}}});
}

absl::StatusOr<std::unique_ptr<Upload>> UploadStore::Open(
    UploadKind kind, const v1::UploadHeader& header) {
  const std::string field =
      kind == UploadKind::kSnapshot ? "header" : "header.upload";
  POT_ASSIGN_OR_RETURN(const int64_t bytes,
                       CheckUploadHeader(header, options_.max_bytes, field));
  if (options_.check_disk_space != nullptr) {
    POT_RETURN_IF_ERROR(options_.check_disk_space(bytes));
  }
  const std::string directory =
      Directory(header.lease().job_id(), header.upload_id());
  MutexLock opening(&opening_);
  POT_ASSIGN_OR_RETURN(std::shared_ptr<Upload::Turn> turn, TakeOver(directory));
  UploadKind known_kind = kind;
  const absl::StatusOr<v1::UploadHeader> known =
      ReadUploadHeader(directory, &known_kind);
  const bool goes_on =
      known.ok() && known_kind == kind && SameUploadedFiles(*known, header);
  if (known.ok() && !goes_on &&
      known->lease().epoch() == header.lease().epoch()) {
    return Invalid(field,
                   absl::StrCat("must be the same as when upload ",
                                header.upload_id(), " began"),
                   "", header.upload_id());
  }
  if (!goes_on) {
    POT_RETURN_IF_ERROR(RemoveTree(directory));
    POT_RETURN_IF_ERROR(MakeDirectories(options_.jobs_directory,
                                        header.lease().job_id(), "uploads"));
    POT_RETURN_IF_ERROR(RemoveOlder(header));
    POT_RETURN_IF_ERROR(MakeDirectory(directory).status());
  }
  // Written last of all, so that what has a header is an upload.
  POT_RETURN_IF_ERROR(MakeDirectory(directory + "/files").status());
  if (!goes_on || known->lease().epoch() != header.lease().epoch()) {
    POT_RETURN_IF_ERROR(WriteUploadHeader(directory, kind, header));
  }
  auto upload =
      std::unique_ptr<Upload>(new Upload(directory, header, std::move(turn)));
  POT_RETURN_IF_ERROR(upload->FindPosition());
  return upload;
}

absl::StatusOr<UploadPosition> UploadStore::Find(absl::string_view job_id,
                                                 absl::string_view upload_id) {
  POT_RETURN_IF_ERROR(CheckUploadName(job_id, "lease.job_id"));
  POT_RETURN_IF_ERROR(CheckUploadName(upload_id, "upload_id"));
  const std::string directory = Directory(job_id, upload_id);
  UploadKind kind;
  const absl::StatusOr<v1::UploadHeader> header =
      ReadUploadHeader(directory, &kind);
  if (!header.ok()) return UploadPosition();
  return PositionIn(directory + "/files", *header);
}

void UploadStore::Sweep(
    const std::function<bool(const std::string& job_id)>& keep_uploads) {
  const auto jobs = ListDirectory(options_.jobs_directory);
  if (!jobs.ok()) return;
  for (const DirectoryEntry& job : *jobs) {
    const std::string uploads =
        absl::StrCat(options_.jobs_directory, "/", job.name, "/uploads");
    if (!IsDirectory(uploads)) continue;
    if (!keep_uploads(job.name)) {
      RemoveTree(uploads).IgnoreError();
      continue;
    }
    const auto entries = ListDirectory(uploads);
    if (!entries.ok()) continue;
    for (const DirectoryEntry& entry : *entries) {
      const std::string directory = absl::StrCat(uploads, "/", entry.name);
      UploadKind kind;
      if (!ReadUploadHeader(directory, &kind).ok()) {
        RemoveTree(directory).IgnoreError();
      }
    }
  }
}

}  // namespace pot
