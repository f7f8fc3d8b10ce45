#include "client/text_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/text_format.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

absl::Status FileError(const std::string& name, int error) {
  const std::string text =
      absl::StrCat("cannot read ", Printable(name), ": ", std::strerror(error));
  return error == ENOENT ? absl::NotFoundError(text)
                         : absl::InvalidArgumentError(text);
}

// Copies what `from` still holds into a temporary file without a name.
absl::StatusOr<int> Spool(int from, const Interrupter& interrupter) {
  std::FILE* const file = std::tmpfile();
  const int fd = file == nullptr ? -1 : fcntl(fileno(file), F_DUPFD_CLOEXEC, 0);
  const int error = errno;
  if (file != nullptr) std::fclose(file);
  if (fd < 0) {
    return absl::InternalError(
        absl::StrCat("no temporary file: ", std::strerror(error)));
  }
  std::string piece(64 * 1024, '\0');
  for (;;) {
    const absl::StatusOr<size_t> count =
        ReadInterruptibly(from, piece.data(), piece.size(), interrupter);
    if (!count.ok()) {
      close(fd);
      return count.status();
    }
    if (*count == 0) {
      lseek(fd, 0, SEEK_SET);
      return fd;
    }
    if (const int failed = WriteFully(fd, {piece.data(), *count});
        failed != 0) {
      close(fd);
      return absl::InternalError(absl::StrCat("cannot write a temporary file: ",
                                              std::strerror(failed)));
    }
  }
}

}  // namespace

TextFile::TextFile(int fd, bool owned, std::string name)
    : fd_(fd), owned_(owned), name_(std::move(name)) {
  struct stat status;
  if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
    begin_ = std::max<int64_t>(0, lseek(fd, 0, SEEK_CUR));
    size_ = std::max<int64_t>(0, status.st_size - begin_);
  }
}

TextFile::TextFile(TextFile&& other) noexcept
    : fd_(other.fd_),
      owned_(std::exchange(other.owned_, false)),
      begin_(other.begin_),
      size_(other.size_),
      name_(std::move(other.name_)) {}

TextFile::~TextFile() {
  if (owned_) close(fd_);
}

absl::StatusOr<TextFile> TextFile::Open(const std::string& path,
                                        const Console& console, bool rereadable,
                                        const Interrupter& interrupter) {
  const bool standard_input = path == "-";
  const std::string name = standard_input ? "standard input" : path;
  const int fd = standard_input ? console.in_fd()
                                : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError(name, errno);
  TextFile file(fd, !standard_input, name);
  struct stat status;
  if (fstat(fd, &status) != 0) return FileError(name, errno);
  if (S_ISDIR(status.st_mode)) return FileError(name, EISDIR);
  if (S_ISREG(status.st_mode) || !rereadable) return file;
  POT_ASSIGN_OR_RETURN(const int spooled, Spool(fd, interrupter));
  return TextFile(spooled, /*owned=*/true, name);
}

absl::Status TextFile::Rewind() {
  if (lseek(fd_, begin_, SEEK_SET) < 0) return FileError(name_, errno);
  return absl::OkStatus();
}

}  // namespace pot
