#include "server/serving/append_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"

namespace pot {
namespace {

absl::Status WriteAll(int fd, int64_t offset, absl::string_view text,
                      const std::string& path) {
  if (const int error = WriteFullyAt(fd, text, &offset); error != 0) {
    return absl::ErrnoToStatus(error, absl::StrCat("cannot write ", path));
  }
  if (fsync(fd) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot sync ", path));
  }
  return absl::OkStatus();
}

absl::Status AppendTo(int fd, int64_t size, absl::string_view text,
                      const std::string& path) {
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is not a regular file"));
  }
  if (ftruncate(fd, size) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot cut ", path));
  }
  const absl::Status written = WriteAll(fd, size, text, path);
  if (!written.ok() && ftruncate(fd, size) != 0) {
    return absl::DataLossError(
        absl::StrCat(written.message(), "; it may end with a part of a line"));
  }
  return written;
}

}  // namespace

absl::Status AppendSynced(const std::string& path, int64_t size,
                          absl::string_view text) {
  const int fd =
      open(path.c_str(),
           O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
  if (fd < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  }
  const absl::Status status = AppendTo(fd, size, text, path);
  close(fd);
  if (!status.ok() || size > 0) return status;
  return SyncDirectory(path.substr(0, path.rfind('/')));
}

}  // namespace pot
