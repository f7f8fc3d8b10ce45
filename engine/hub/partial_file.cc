#include "engine/hub/partial_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

absl::Status ErrnoError(int error, const char* action,
                        const std::string& path) {
  const absl::Status status =
      absl::ErrnoToStatus(error, absl::StrCat("cannot ", action, " ", path));
  if (error != ENOSPC && error != EDQUOT) return status;
  return absl::ResourceExhaustedError(absl::StrCat(
      status.message(), "; what is there is kept: make room and try again"));
}

absl::Status SyncParent(const std::string& path) {
  return SyncDirectory(std::filesystem::path(path).parent_path().string());
}

}  // namespace

PartialFile::PartialFile(std::string path, int fd, int64_t size)
    : path_(std::move(path)), fd_(fd), size_(size) {}

PartialFile::PartialFile(PartialFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_) {}

PartialFile::~PartialFile() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<PartialFile> PartialFile::Open(const std::string& path) {
  const int fd =
      open(path.c_str(),
           O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
           0666);
  if (fd < 0) return ErrnoError(errno, "open", path);
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is not a regular file"));
  }
  return PartialFile(path, fd, info.st_size);
}

absl::Status PartialFile::Error(const char* action) const {
  return ErrnoError(errno, action, path_);
}

absl::Status PartialFile::Append(absl::string_view bytes) {
  if (const int error = WriteFullyAt(fd_, bytes, &size_); error != 0) {
    return ErrnoError(error, "write", path_);
  }
  return absl::OkStatus();
}

absl::Status PartialFile::Restart() {
  if (ftruncate(fd_, 0) != 0) return Error("truncate");
  size_ = 0;
  return absl::OkStatus();
}

absl::Status PartialFile::Publish(const std::string& path) {
  if (fsync(fd_) != 0) return Error("sync");
  if (rename(path_.c_str(), path.c_str()) != 0) return Error("rename");
  return SyncParent(path);
}

absl::Status ReplaceFile(const std::string& path, absl::string_view content) {
  const std::string staged = absl::StrCat(path, ".", getpid(), ".tmp");
  POT_RETURN_IF_ERROR(WriteFile(staged, content));
  if (rename(staged.c_str(), path.c_str()) != 0) {
    const absl::Status status = ErrnoError(errno, "rename to", path);
    unlink(staged.c_str());
    return status;
  }
  return SyncParent(path);
}

absl::StatusOr<bool> FileLock::TryLock(const std::string& path,
                                       FileLock* lock) {
  const int fd =
      open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd < 0) return ErrnoError(errno, "open", path);
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    close(fd);
    if (error == EWOULDBLOCK || error == EINTR) return false;
    return ErrnoError(error, "lock", path);
  }
  lock->fd_ = fd;
  return true;
}

FileLock::~FileLock() {
  if (fd_ >= 0) close(fd_);
}

}  // namespace pot
