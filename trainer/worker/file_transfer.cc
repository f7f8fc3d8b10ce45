#include "trainer/worker/file_transfer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/characters.h"
#include "engine/base/crc32c.h"
#include "engine/base/file.h"
#include "engine/base/quote.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/directory.h"

namespace pot {
namespace {

constexpr int64_t kChunkBytes = int64_t{256} << 10;
// Whole transfers of a file whose digest comes out wrong.
constexpr int kMaxFetches = 3;

absl::Span<const uint8_t> Bytes(const std::string& data) {
  return {reinterpret_cast<const uint8_t*>(data.data()), data.size()};
}

// Bytes that are appended to a file.
class PartialFile {
 public:
  static absl::StatusOr<std::unique_ptr<PartialFile>> Open(std::string path) {
    const int fd =
        open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0) return Error("cannot open", path);
    std::unique_ptr<PartialFile> file(new PartialFile(std::move(path), fd));
    struct stat info;
    if (fstat(fd, &info) != 0) return Error("cannot stat", file->path_);
    file->size_ = info.st_size;
    return file;
  }
  ~PartialFile() { close(fd_); }

  int64_t size() const { return size_; }

  absl::Status Clear() {
    if (ftruncate(fd_, 0) != 0) return Error("cannot cut", path_);
    size_ = 0;
    return absl::OkStatus();
  }

  absl::Status Append(const std::string& data) {
    if (const int error = WriteFullyAt(fd_, data, &size_); error != 0) {
      return absl::ErrnoToStatus(error, absl::StrCat("cannot write ", path_));
    }
    return absl::OkStatus();
  }

  absl::Status Sync() {
    if (fsync(fd_) != 0) return Error("cannot sync", path_);
    return absl::OkStatus();
  }

 private:
  PartialFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  static absl::Status Error(absl::string_view what, const std::string& path) {
    return absl::ErrnoToStatus(errno, absl::StrCat(what, " ", path));
  }

  const std::string path_;
  const int fd_;
  int64_t size_ = 0;
};

absl::Status CheckChunk(const v1::TransferChunk& chunk, int64_t offset,
                        int64_t size) {
  const auto bytes = static_cast<int64_t>(chunk.data().size());
  if (chunk.offset() != offset || bytes == 0 || bytes > size - offset) {
    return absl::DataLossError(absl::StrCat("a chunk of ", bytes, " bytes at ",
                                            chunk.offset(), " came where ",
                                            offset, " of ", size, " was next"));
  }
  if (Crc32c(Bytes(chunk.data())) != chunk.crc32c()) {
    return absl::DataLossError(
        absl::StrCat("the chunk at ", offset, " has another CRC-32C"));
  }
  return absl::OkStatus();
}

// What the server finds wrong with a call is not wrong with the job.
absl::Status TransferStatus(const absl::Status& status) {
  if (!absl::IsInvalidArgument(status) && !absl::IsOutOfRange(status)) {
    return status;
  }
  return absl::InternalError(
      absl::StrCat("a transfer was refused: ", status.message()));
}

// From the end of `partial` to the end of the file.
absl::Status FetchRest(WorkerService* service, LeaseKeeper* keeper,
                       FetchKind kind, const v1::StoredFile& file,
                       PartialFile* partial) {
  const auto take = [&](const v1::TransferChunk& chunk) -> absl::Status {
    if (keeper->command() >= JobCommand::kPause) {
      return absl::CancelledError("the job was stopped");
    }
    POT_RETURN_IF_ERROR(CheckChunk(chunk, partial->size(), file.size_bytes()));
    return partial->Append(chunk.data());
  };
  return keeper->Retry(JobCommand::kPause, [&]() -> absl::Status {
    if (partial->size() > file.size_bytes()) {
      POT_RETURN_IF_ERROR(partial->Clear());
    }
    if (partial->size() == file.size_bytes()) return absl::OkStatus();
    POT_RETURN_IF_ERROR(service->Fetch(kind, keeper->key(), file.sha256(),
                                       partial->size(), take));
    if (partial->size() == file.size_bytes()) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat("the stream ended after ",
                                            partial->size(), " of ",
                                            file.size_bytes(), " bytes"));
  });
}

// Reads the files of an upload in chunks, from any place on.
class ChunkReader {
 public:
  ChunkReader(const std::string& directory, const v1::UploadHeader& header,
              const v1::GetUploadResponse& from)
      : directory_(directory),
        header_(header),
        file_(from.complete() ? header.files_size()
                              : static_cast<int>(std::min<uint32_t>(
                                    from.file_index(), header.files_size()))),
        offset_(std::max<int64_t>(0, from.offset())) {}

  absl::StatusOr<bool> Next(v1::TransferChunk* chunk) {
    while (file_ < header_.files_size() &&
           offset_ >= header_.files(file_).size_bytes()) {
      ++file_;
      offset_ = 0;
      open_.reset();
    }
    if (file_ >= header_.files_size()) return false;
    const v1::StoredFile& file = header_.files(file_);
    if (open_ == nullptr) {
      POT_ASSIGN_OR_RETURN(
          ForeignFile opened,
          ForeignFile::Open(absl::StrCat(directory_, "/", file.path())));
      open_ = std::make_unique<ForeignFile>(std::move(opened));
    }
    chunk->set_file_index(static_cast<uint32_t>(file_));
    chunk->set_offset(offset_);
    std::string* const data = chunk->mutable_data();
    data->resize(static_cast<size_t>(
        std::min(kChunkBytes, file.size_bytes() - offset_)));
    POT_RETURN_IF_ERROR(
        open_->ReadAt(static_cast<uint64_t>(offset_),
                      absl::MakeSpan(reinterpret_cast<uint8_t*>(data->data()),
                                     data->size())));
    chunk->set_crc32c(Crc32c(Bytes(*data)));
    offset_ += static_cast<int64_t>(data->size());
    return true;
  }

 private:
  const std::string& directory_;
  const v1::UploadHeader& header_;
  int file_;
  int64_t offset_;
  std::unique_ptr<ForeignFile> open_;
};

}  // namespace

bool IsPlainName(const std::string& text) {
  return IsNameText(text, 128) && text[0] != '.';
}

absl::Status FetchFile(WorkerService* service, LeaseKeeper* keeper,
                       FetchKind kind, const v1::StoredFile& file,
                       const std::string& to) {
  if (!IsSha256Hex(file.sha256()) || file.size_bytes() < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("the lease describes a file of ", file.size_bytes(),
                     " bytes with the digest ", Quote(file.sha256())));
  }
  const std::string path = to + ".partial";
  for (int fetch = 0; fetch < kMaxFetches; ++fetch) {
    POT_ASSIGN_OR_RETURN(const auto partial, PartialFile::Open(path));
    POT_RETURN_IF_ERROR(
        TransferStatus(FetchRest(service, keeper, kind, file, partial.get())));
    POT_ASSIGN_OR_RETURN(const std::string sha256, Sha256File(path));
    if (sha256 == file.sha256()) {
      POT_RETURN_IF_ERROR(partial->Sync());
      if (rename(path.c_str(), to.c_str()) != 0) {
        return absl::ErrnoToStatus(
            errno, absl::StrCat("cannot rename ", path, " to ", to));
      }
      return absl::OkStatus();
    }
    POT_RETURN_IF_ERROR(partial->Clear());
  }
  return absl::DataLossError(
      absl::StrCat("the file with the digest ", file.sha256(),
                   " came with another one, ", kMaxFetches, " times"));
}

std::string UploadId(OutgoingKind kind, int64_t step) {
  return absl::StrCat(
      kind == OutgoingKind::kSnapshot ? "snapshot-" : "checkpoint-", step);
}

absl::StatusOr<v1::UploadHeader> DescribeUpload(const v1::LeaseKey& lease,
                                                OutgoingKind kind, int64_t step,
                                                const std::string& directory) {
  v1::UploadHeader header;
  *header.mutable_lease() = lease;
  header.set_upload_id(UploadId(kind, step));
  header.set_step(step);
  POT_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries,
                       ListDirectory(directory));
  for (const DirectoryEntry& entry : entries) {
    v1::StoredFile* const file = header.add_files();
    file->set_path(entry.name);
    file->set_size_bytes(entry.bytes);
    POT_ASSIGN_OR_RETURN(*file->mutable_sha256(),
                         Sha256File(absl::StrCat(directory, "/", entry.name)));
  }
  return header;
}

absl::Status UploadFiles(WorkerService* service, LeaseKeeper* keeper,
                         OutgoingKind kind, const v1::UploadHeader& header,
                         const v1::CheckpointEvaluation& evaluation,
                         const std::string& directory) {
  v1::GetUploadRequest question;
  *question.mutable_lease() = header.lease();
  question.set_upload_id(header.upload_id());
  v1::CheckpointUploadHeader checkpoint;
  *checkpoint.mutable_upload() = header;
  *checkpoint.mutable_evaluation() = evaluation;
  return TransferStatus(
      keeper->Retry(JobCommand::kCancel, [&]() -> absl::Status {
        POT_ASSIGN_OR_RETURN(const v1::GetUploadResponse from,
                             service->GetUpload(question));
        ChunkReader reader(directory, header, from);
        const auto next =
            [&](v1::TransferChunk* chunk) -> absl::StatusOr<bool> {
          if (keeper->command() >= JobCommand::kCancel) {
            return absl::CancelledError("the job was stopped");
          }
          return reader.Next(chunk);
        };
        if (kind == OutgoingKind::kSnapshot) {
          return service->UploadSnapshot(header, next).status();
        }
        return service->UploadCheckpoint(checkpoint, next).status();
      }));
}

}  // namespace pot
