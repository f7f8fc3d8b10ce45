#include "server/rpc/checkpoint_upload.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/manifest.h"
#include "server/rpc/model_proto_conversion.h"
#include "server/serving/error_details.h"
#include "server/serving/field_errors.h"

namespace pot {

CheckpointUpload::CheckpointUpload(ModelRepository* repository,
                                   int64_t max_bytes)
    : repository_(repository), max_bytes_(max_bytes) {}

CheckpointUpload::~CheckpointUpload() {
  if (fd_ >= 0) close(fd_);
}

absl::Status CheckpointUpload::Add(
    const v1::RegisterCheckpointRequest& message) {
  switch (message.part_case()) {
    case v1::RegisterCheckpointRequest::kHeader:
      if (staged_.has_value()) {
        return FieldError("MISSING_FIELD", "chunk",
                          "must be in every message but the first", "", "");
      }
      return Begin(message.header());
    case v1::RegisterCheckpointRequest::kChunk:
      if (!staged_.has_value()) {
        return FieldError("MISSING_FIELD", "header",
                          "must be in the first message", "", "");
      }
      return Append(message.chunk());
    case v1::RegisterCheckpointRequest::PART_NOT_SET:
      break;
  }
  return FieldError("MISSING_FIELD", "part", "is missing: header or chunk", "",
                    "");
}

absl::Status CheckpointUpload::CheckFiles(
    const v1::CheckpointHeader& header) const {
  POT_RETURN_IF_ERROR(
      CheckRange("header.files", header.files_size(), 1, kMaxUploadFiles));
  std::set<std::string> names;
  int64_t total = 0;
  for (int i = 0; i < header.files_size(); ++i) {
    const v1::FileInfo& info = header.files(i);
    const std::string field = absl::StrCat("header.files[", i, "]");
    POT_RETURN_IF_ERROR(
        CheckFileName(field + ".path", info.path(), kMaxUploadNameBytes));
    if (!names.insert(info.path()).second) {
      return FieldError(
          "INVALID_FIELD", field + ".path",
          absl::StrCat("is the second file called ", Quoted(info.path())), "",
          Quoted(info.path()));
    }
    POT_RETURN_IF_ERROR(CheckSha256(field + ".sha256", info.sha256()));
    if (info.size_bytes() < 0) {
      return RangeError(field + ".size_bytes", "[0, 9223372036854775807]",
                        absl::StrCat(info.size_bytes()));
    }
    if (__builtin_add_overflow(total, info.size_bytes(), &total) ||
        total > max_bytes_) {
      const std::string value = absl::StrCat(info.size_bytes());
      return WithDetails(
          absl::ResourceExhaustedError(absl::StrCat(
              "the files up to ", field, ", which has ", value,
              " bytes, are larger than the limit of ", max_bytes_, " bytes")),
          {.reason = "UPLOAD_TOO_LARGE",
           .metadata = {{"limit", absl::StrCat(max_bytes_)}, {"value", value}},
           .field = field + ".size_bytes"});
    }
  }
  if (names.count(kManifestFile) == 0) {
    return FieldError("MISSING_FIELD", "header.files",
                      absl::StrCat("must have ", kManifestFile, " among them"),
                      "", "");
  }
  return repository_->CheckDiskSpace(total);
}

absl::Status CheckpointUpload::Begin(const v1::CheckpointHeader& header) {
  POT_RETURN_IF_ERROR(CheckModelName(header.name(), "header.name"));
  if (header.has_version()) {
    // 18 digits, so that one more still is a number.
    POT_RETURN_IF_ERROR(
        CheckRange("header.version", header.version(), 1, 999999999999999999));
  }
  POT_RETURN_IF_ERROR(CheckFiles(header));
  if (header.has_version() &&
      repository_->Get({.name = header.name(), .version = header.version()})
          .ok()) {
    return WithDetails(
        absl::AlreadyExistsError(absl::StrCat("model ", header.name(),
                                              " already has version ",
                                              header.version())),
        {.reason = "VERSION_EXISTS",
         .metadata = {{"value", absl::StrCat(header.version())}}});
  }
  POT_ASSIGN_OR_RETURN(StagedVersion staged, repository_->Stage(header.name()));
  staged_.emplace(std::move(staged));
  header_ = header;
  return OpenNext();
}

absl::Status CheckpointUpload::OpenNext() {
  for (; index_ < header_.files_size(); ++index_) {
    const std::string path =
        absl::StrCat(staged_->directory(), "/", file().path());
    fd_ = open(path.c_str(),
               O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd_ < 0) {
      return absl::ErrnoToStatus(errno, "cannot make the uploaded file");
    }
    digest_ = std::make_unique<Sha256>();
    offset_ = 0;
    if (file().size_bytes() > 0) return absl::OkStatus();
    POT_RETURN_IF_ERROR(CloseFile());
  }
  return absl::OkStatus();
}

absl::Status CheckpointUpload::CloseFile() {
  if (close(std::exchange(fd_, -1)) != 0) {
    return absl::ErrnoToStatus(errno, "cannot write the uploaded file");
  }
  const std::string found = digest_->HexDigest();
  if (found == file().sha256()) return absl::OkStatus();
  return WithDetails(
      absl::DataLossError(absl::StrCat("SHA-256 of the uploaded file ",
                                       file().path(), " is ", found,
                                       ", announced was ", file().sha256())),
      {.reason = "CHECKSUM_MISMATCH",
       .metadata = {{"limit", file().sha256()}, {"value", found}}});
}

absl::Status CheckpointUpload::Append(const v1::FileChunk& chunk) {
  POT_RETURN_IF_ERROR(CheckRange("chunk.data",
                                 static_cast<int64_t>(chunk.data().size()), 1,
                                 kMaxUploadChunkBytes));
  if (index_ == header_.files_size()) {
    return FieldError("INVALID_FIELD", "chunk.file_index",
                      "comes after the last byte of the last file", "",
                      absl::StrCat(chunk.file_index()));
  }
  if (chunk.file_index() != static_cast<uint32_t>(index_)) {
    return FieldError("INVALID_FIELD", "chunk.file_index",
                      absl::StrCat("must be ", index_,
                                   ", as files come in the "
                                   "header's order; it is ",
                                   chunk.file_index()),
                      absl::StrCat(index_), absl::StrCat(chunk.file_index()));
  }
  if (chunk.offset() != offset_) {
    return FieldError(
        "INVALID_FIELD", "chunk.offset",
        absl::StrCat("must be ", offset_, ", the number of bytes of file ",
                     index_, " so far; it is ", chunk.offset()),
        absl::StrCat(offset_), absl::StrCat(chunk.offset()));
  }
  const int64_t left = file().size_bytes() - offset_;
  const int64_t size = static_cast<int64_t>(chunk.data().size());
  if (size > left) {
    return FieldError("INVALID_FIELD", "chunk.data",
                      absl::StrCat("has ", size, " bytes, but file ", index_,
                                   " has only ", left, " more"),
                      absl::StrCat(left), absl::StrCat(size));
  }
  if (const int error = WriteFully(fd_, chunk.data()); error != 0) {
    return DiskError(error, "cannot write the uploaded file");
  }
  digest_->Update(
      absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(chunk.data().data()),
                          chunk.data().size()));
  offset_ += size;
  if (size < left) return absl::OkStatus();
  POT_RETURN_IF_ERROR(CloseFile());
  ++index_;
  return OpenNext();
}

absl::StatusOr<StagedVersion> CheckpointUpload::Complete() {
  if (!staged_.has_value()) {
    return FieldError("MISSING_FIELD", "header", "must be in the first message",
                      "", "");
  }
  if (index_ < header_.files_size()) {
    return FieldError(
        "MISSING_FIELD", "chunk",
        absl::StrCat("is missing: the stream ended at byte ", offset_, " of ",
                     file().size_bytes(), " of file ", index_),
        absl::StrCat(file().size_bytes()), absl::StrCat(offset_));
  }
  return *std::move(staged_);
}

}  // namespace pot
