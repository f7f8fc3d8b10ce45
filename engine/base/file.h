// Files in and out, with every error a Status that names the path. Only
// regular files are opened: a directory, device or pipe is INVALID_ARGUMENT.
#ifndef POT_ENGINE_BASE_FILE_H_
#define POT_ENGINE_BASE_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace pot {

// The whole of a regular file. NOT_FOUND when there is none,
// INVALID_ARGUMENT, naming both sizes, when it is longer than `max_bytes`.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes);

// Passes the content of a regular file, however long, to `consume` in pieces
// of at most 1 MiB, in order. Stops at the first error and returns it.
absl::Status ReadFilePieces(
    const std::string& path,
    absl::FunctionRef<absl::Status(absl::Span<const uint8_t>)> consume);

// Writes `contents` to `path` and fsyncs the file. Truncates a file that
// is there: publish by writing into a directory that nobody reads yet and
// RenameDirectory().
absl::Status WriteFile(const std::string& path, absl::string_view contents);

// Writes all of `data` where the descriptor stands, or from `*offset` on, which
// moves with every byte written. The errno of the first failure; 0 for none.
int WriteFully(int fd, absl::string_view data);
int WriteFullyAt(int fd, absl::string_view data, int64_t* offset);

// fsyncs the directory itself, so that the names in it survive a crash.
absl::Status SyncDirectory(const std::string& path);

// Atomically renames the directory `from`, whose files are already synced, to
// `to` and syncs both parents. ALREADY_EXISTS when `to` is there, even when
// empty. When a sync fails, the directory has its new name, but a crash may
// give it the old one back; `renamed`, unless null, tells this error from the
// others.
absl::Status RenameDirectory(const std::string& from, const std::string& to,
                             bool* renamed = nullptr);

// A regular file that others may write to while it is read. It is never mapped:
// a process that touches a mapped page beyond the end of a file that was cut is
// killed. No descriptor is held between reads.
class ForeignFile {
 public:
  static absl::StatusOr<ForeignFile> Open(const std::string& path);

  const std::string& path() const { return path_; }
  uint64_t size() const { return stamp_.size; }

  // Both are FAILED_PRECONDITION once the file is not what Open() saw: removed,
  // replaced, of another size or modified later (to the resolution of the file
  // system's clock).

  // Fills `out` with the bytes from `offset` on. OUT_OF_RANGE beyond size().
  absl::Status ReadAt(uint64_t offset, absl::Span<uint8_t> out) const;
  // Passes all of it to `consume` in pieces of at most 1 MiB, in order. Stops
  // at the first error and returns it.
  absl::Status ReadPieces(
      absl::FunctionRef<absl::Status(absl::Span<const uint8_t>)> consume) const;

 private:
  struct Stamp {
    uint64_t size = 0;
    uint64_t device = 0;
    uint64_t inode = 0;
    int64_t seconds = 0;
    int64_t nanoseconds = 0;

    bool operator==(const Stamp&) const = default;
  };

  ForeignFile(std::string path, const Stamp& stamp)
      : path_(std::move(path)), stamp_(stamp) {}
  static absl::StatusOr<Stamp> StampOf(int fd, const std::string& path);
  absl::Status CheckUnchanged(int fd) const;

  std::string path_;
  Stamp stamp_;
};

// Writes the content of `from` to `to` and fsyncs it, as WriteFile() does.
absl::Status CopyFile(const ForeignFile& from, const std::string& to);

// A read-only mapping of a regular file. Movable; unmaps when destroyed. The
// file must not be truncated meanwhile: published files never are. Files that
// others may write are read as ForeignFile.
class MappedFile {
 public:
  static absl::StatusOr<MappedFile> Open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  absl::Span<const uint8_t> bytes() const { return {data_, size_}; }

 private:
  MappedFile(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace pot

#endif  // POT_ENGINE_BASE_FILE_H_
