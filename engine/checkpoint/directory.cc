#include "engine/checkpoint/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace pot {
namespace {

absl::Status ErrnoError(int error, const char* action,
                        const std::string& path) {
  return absl::ErrnoToStatus(error, absl::StrCat(action, " ", path));
}

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

DirectoryEntry MakeEntry(const char* name, const struct stat& info) {
  DirectoryEntry entry;
  entry.name = name;
  if (S_ISREG(info.st_mode)) entry.kind = DirectoryEntry::Kind::kFile;
  if (S_ISDIR(info.st_mode)) entry.kind = DirectoryEntry::Kind::kDirectory;
  entry.bytes = info.st_size;
  entry.modified = absl::TimeFromTimespec(info.st_mtim);
  return entry;
}

}  // namespace

absl::StatusOr<std::vector<DirectoryEntry>> ListDirectory(
    const std::string& path) {
  const int fd =
      open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return ErrnoError(errno, "open directory", path);
  const std::unique_ptr<DIR, CloseDirectory> directory(fdopendir(fd));
  if (directory == nullptr) {
    const int error = errno;
    close(fd);
    return ErrnoError(error, "list directory", path);
  }
  std::vector<DirectoryEntry> entries;
  errno = 0;
  while (const dirent* found = readdir(directory.get())) {
    const std::string name = found->d_name;
    struct stat info;
    if (name != "." && name != "..") {
      if (fstatat(fd, found->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0) {
        entries.push_back(MakeEntry(found->d_name, info));
      } else if (errno != ENOENT) {
        return ErrnoError(errno, "stat", absl::StrCat(path, "/", name));
      }
    }
    errno = 0;
  }
  if (errno != 0) return ErrnoError(errno, "list directory", path);
  std::sort(entries.begin(), entries.end(),
            [](const DirectoryEntry& a, const DirectoryEntry& b) {
              return a.name < b.name;
            });
  return entries;
}

bool IsDirectory(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

absl::StatusOr<bool> MakeDirectory(const std::string& path) {
  if (mkdir(path.c_str(), 0777) == 0) return true;
  if (errno != EEXIST) return ErrnoError(errno, "make directory", path);
  if (IsDirectory(path)) return false;
  return absl::FailedPreconditionError(
      absl::StrCat(path, " exists and is not a directory"));
}

absl::Status SyncFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return ErrnoError(errno, "open", path);
  const int error = fsync(fd) == 0 ? 0 : errno;
  close(fd);
  return error == 0 ? absl::OkStatus() : ErrnoError(error, "fsync", path);
}

absl::Status RemoveTree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  // Another process may be removing the same tree.
  if (error && error != std::errc::no_such_file_or_directory) {
    return ErrnoError(error.value(), "remove", path);
  }
  return absl::OkStatus();
}

}  // namespace pot
