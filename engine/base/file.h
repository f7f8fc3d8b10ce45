// Files in and out, with every error a Status that names the path. Only
// regular files are opened: a directory, device or pipe is INVALID_ARGUMENT.
#ifndef POT_ENGINE_BASE_FILE_H_
#define POT_ENGINE_BASE_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>

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

// fsyncs the directory itself, so that the names in it survive a crash.
absl::Status SyncDirectory(const std::string& path);

// Atomically renames the directory `from`, whose files are already synced, to
// `to` and syncs both parents. ALREADY_EXISTS when `to` is there, even when
// empty.
absl::Status RenameDirectory(const std::string& from, const std::string& to);

// A read-only mapping of a regular file. Movable; unmaps when destroyed. The
// file must not be truncated meanwhile: published files never are.
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
