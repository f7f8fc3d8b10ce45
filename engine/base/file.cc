#include "engine/base/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;

absl::Status ErrnoStatus(absl::string_view what, absl::string_view path) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " ", path));
}

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  // Closes now; false, with errno, when a delayed write failed.
  bool Close() { return close(std::exchange(fd_, -1)) == 0; }

 private:
  int fd_;
};

// The system would silently cut a path at an embedded NUL.
absl::Status CheckPath(absl::string_view path) {
  if (path.empty()) return absl::InvalidArgumentError("empty path");
  if (path.find('\0') != absl::string_view::npos) {
    return absl::InvalidArgumentError("path contains a NUL byte");
  }
  return absl::OkStatus();
}

absl::StatusOr<FileDescriptor> OpenRegularFile(const std::string& path,
                                               int flags, size_t* size) {
  POT_RETURN_IF_ERROR(CheckPath(path));
  // O_NONBLOCK: opening a pipe must not wait for its other end.
  const int fd =
      open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
  if (fd < 0 && errno == EISDIR) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is not a regular file"));
  }
  if (fd < 0) return ErrnoStatus("cannot open", path);
  FileDescriptor file(fd);
  struct stat info;
  if (fstat(fd, &info) != 0) return ErrnoStatus("cannot stat", path);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is not a regular file"));
  }
  *size = static_cast<size_t>(info.st_size);
  return file;
}

// Reads until `size` bytes are there or the file ends.
absl::StatusOr<size_t> ReadUpTo(int fd, char* data, size_t size,
                                const std::string& path) {
  size_t done = 0;
  while (done < size) {
    const ssize_t n = read(fd, data + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus("cannot read", path);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

absl::Status WriteAll(int fd, absl::string_view data, const std::string& path) {
  if (const int error = WriteFully(fd, data); error != 0) {
    return absl::ErrnoToStatus(error, absl::StrCat("cannot write ", path));
  }
  return absl::OkStatus();
}

absl::Status SyncAndClose(FileDescriptor file, const std::string& path) {
  if (fsync(file.get()) != 0) return ErrnoStatus("cannot sync", path);
  if (!file.Close()) return ErrnoStatus("cannot close", path);
  return absl::OkStatus();
}

absl::StatusOr<FileDescriptor> OpenForWriting(const std::string& path) {
  size_t size = 0;
  return OpenRegularFile(path, O_WRONLY | O_CREAT | O_TRUNC, &size);
}

absl::Status TooLong(const std::string& path, absl::string_view size,
                     size_t max_bytes) {
  return absl::InvalidArgumentError(absl::StrCat(
      path, " has ", size, " bytes, more than the limit of ", max_bytes));
}

std::string ParentDirectory(absl::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == absl::string_view::npos) return ".";
  return std::string(path.substr(0, std::max<size_t>(slash, 1)));
}

absl::Status RenameNoReplace(const std::string& from, const std::string& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(),
                RENAME_NOREPLACE) == 0) {
    return absl::OkStatus();
  }
  if (errno != EINVAL && errno != ENOSYS) {
    return ErrnoStatus(absl::StrCat("cannot rename ", from, " to"), to);
  }
  // A file system without RENAME_NOREPLACE. Between the check and the rename
  // another process could create `to`; rename() replaces it only when empty.
  struct stat info;
  if (lstat(to.c_str(), &info) == 0) {
    return absl::AlreadyExistsError(
        absl::StrCat("cannot rename ", from, " to ", to, ": it exists"));
  }
  if (rename(from.c_str(), to.c_str()) != 0) {
    return ErrnoStatus(absl::StrCat("cannot rename ", from, " to"), to);
  }
  return absl::OkStatus();
}

}  // namespace

int WriteFully(int fd, absl::string_view data) {
  while (!data.empty()) {
    const ssize_t n = write(fd, data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    data.remove_prefix(static_cast<size_t>(n));
  }
  return 0;
}

int WriteFullyAt(int fd, absl::string_view data, int64_t* offset) {
  while (!data.empty()) {
    const ssize_t n =
        pwrite(fd, data.data(), data.size(), static_cast<off_t>(*offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    data.remove_prefix(static_cast<size_t>(n));
    *offset += n;
  }
  return 0;
}

absl::StatusOr<std::string> ReadFile(const std::string& path,
                                     size_t max_bytes) {
  size_t size = 0;
  POT_ASSIGN_OR_RETURN(const FileDescriptor file,
                       OpenRegularFile(path, O_RDONLY, &size));
  if (size > max_bytes) return TooLong(path, absl::StrCat(size), max_bytes);
  // One byte beyond the stated size tells a file that ends there from one
  // that is growing or, as in /proc, states no size.
  std::string contents;
  size_t done = 0;
  size_t want = size + 1;
  while (true) {
    contents.resize(want);
    POT_ASSIGN_OR_RETURN(
        const size_t n,
        ReadUpTo(file.get(), contents.data() + done, want - done, path));
    done += n;
    if (done > max_bytes) {
      return TooLong(path, absl::StrCat("at least ", done), max_bytes);
    }
    if (done < want) break;
    want += kPieceBytes;
  }
  contents.resize(done);
  return contents;
}

absl::Status ReadFilePieces(
    const std::string& path,
    absl::FunctionRef<absl::Status(absl::Span<const uint8_t>)> consume) {
  size_t size = 0;
  POT_ASSIGN_OR_RETURN(const FileDescriptor file,
                       OpenRegularFile(path, O_RDONLY, &size));
  std::vector<char> buffer(kPieceBytes);
  while (true) {
    POT_ASSIGN_OR_RETURN(const size_t n, ReadUpTo(file.get(), buffer.data(),
                                                  buffer.size(), path));
    if (n > 0) {
      POT_RETURN_IF_ERROR(consume(absl::MakeConstSpan(
          reinterpret_cast<const uint8_t*>(buffer.data()), n)));
    }
    if (n < buffer.size()) return absl::OkStatus();
  }
}

absl::Status WriteFile(const std::string& path, absl::string_view contents) {
  POT_ASSIGN_OR_RETURN(FileDescriptor file, OpenForWriting(path));
  POT_RETURN_IF_ERROR(WriteAll(file.get(), contents, path));
  return SyncAndClose(std::move(file), path);
}

absl::StatusOr<ForeignFile::Stamp> ForeignFile::StampOf(
    int fd, const std::string& path) {
  struct stat info;
  if (fstat(fd, &info) != 0) return ErrnoStatus("cannot stat", path);
  return Stamp{.size = static_cast<uint64_t>(info.st_size),
               .device = info.st_dev,
               .inode = info.st_ino,
               .seconds = info.st_mtim.tv_sec,
               .nanoseconds = info.st_mtim.tv_nsec};
}

absl::StatusOr<ForeignFile> ForeignFile::Open(const std::string& path) {
  size_t size = 0;
  POT_ASSIGN_OR_RETURN(const FileDescriptor file,
                       OpenRegularFile(path, O_RDONLY, &size));
  POT_ASSIGN_OR_RETURN(const Stamp stamp, StampOf(file.get(), path));
  return ForeignFile(path, stamp);
}

absl::Status ForeignFile::CheckUnchanged(int fd) const {
  POT_ASSIGN_OR_RETURN(const Stamp now, StampOf(fd, path_));
  if (now == stamp_) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path_, " was changed while it was read: it had ",
                   stamp_.size, " bytes, now ", now.size,
                   now.inode == stamp_.inode ? "" : ", and is another file"));
}

absl::Status ForeignFile::ReadAt(uint64_t offset,
                                 absl::Span<uint8_t> out) const {
  if (offset > size() || out.size() > size() - offset) {
    return absl::OutOfRangeError(
        absl::StrCat("bytes [", offset, ", ", offset, " + ", out.size(),
                     ") are not in the ", size(), " of ", path_));
  }
  size_t ignored = 0;
  const absl::StatusOr<FileDescriptor> file =
      OpenRegularFile(path_, O_RDONLY, &ignored);
  if (!file.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(
        path_, " was changed while it was read: ", file.status().message()));
  }
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = pread(file->get(), out.data() + done, out.size() - done,
                            static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus("cannot read", path_);
    if (n == 0) break;  // cut meanwhile
    done += static_cast<size_t>(n);
  }
  POT_RETURN_IF_ERROR(CheckUnchanged(file->get()));
  if (done == out.size()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path_, " was changed while it was read: it ended after ",
                   offset + done, " of ", size(), " bytes"));
}

absl::Status ForeignFile::ReadPieces(
    absl::FunctionRef<absl::Status(absl::Span<const uint8_t>)> consume) const {
  std::vector<uint8_t> buffer(std::min<uint64_t>(kPieceBytes, size()));
  for (uint64_t offset = 0; offset < size(); offset += buffer.size()) {
    buffer.resize(std::min<uint64_t>(kPieceBytes, size() - offset));
    POT_RETURN_IF_ERROR(ReadAt(offset, absl::MakeSpan(buffer)));
    POT_RETURN_IF_ERROR(consume(buffer));
  }
  return absl::OkStatus();
}

absl::Status CopyFile(const ForeignFile& from, const std::string& to) {
  POT_ASSIGN_OR_RETURN(FileDescriptor file, OpenForWriting(to));
  POT_RETURN_IF_ERROR(from.ReadPieces([&](absl::Span<const uint8_t> piece) {
    return WriteAll(
        file.get(),
        absl::string_view(reinterpret_cast<const char*>(piece.data()),
                          piece.size()),
        to);
  }));
  return SyncAndClose(std::move(file), to);
}
absl::Status SyncDirectory(const std::string& path) {
  POT_RETURN_IF_ERROR(CheckPath(path));
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus("cannot open directory", path);
  const FileDescriptor directory(fd);
  if (fsync(fd) != 0) return ErrnoStatus("cannot sync directory", path);
  return absl::OkStatus();
}

absl::Status RenameDirectory(const std::string& from, const std::string& to,
                             bool* renamed) {
  if (renamed != nullptr) *renamed = false;
  POT_RETURN_IF_ERROR(CheckPath(from));
  POT_RETURN_IF_ERROR(CheckPath(to));
  struct stat info;
  if (lstat(from.c_str(), &info) != 0) {
    return ErrnoStatus("cannot rename", from);
  }
  if (!S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot rename ", from, ": it is not a directory"));
  }
  POT_RETURN_IF_ERROR(RenameNoReplace(from, to));
  if (renamed != nullptr) *renamed = true;
  const std::string from_parent = ParentDirectory(from);
  const std::string to_parent = ParentDirectory(to);
  POT_RETURN_IF_ERROR(SyncDirectory(to_parent));
  if (from_parent == to_parent) return absl::OkStatus();
  return SyncDirectory(from_parent);
}

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  size_t size = 0;
  POT_ASSIGN_OR_RETURN(const FileDescriptor file,
                       OpenRegularFile(path, O_RDONLY, &size));
  if (size == 0) return MappedFile(nullptr, 0);
  void* data = mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
  if (data == MAP_FAILED) return ErrnoStatus("cannot map", path);
  return MappedFile(static_cast<const uint8_t*>(data), size);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), size_);
}

}  // namespace pot
