#ifndef POT_ENGINE_HUB_PARTIAL_FILE_H_
#define POT_ENGINE_HUB_PARTIAL_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pot {

// A file that grows over several connections and processes, under a name that
// nobody takes for the whole.
class PartialFile {
 public:
  // What an earlier process left is kept. RESOURCE_EXHAUSTED, here and below,
  // when the disk or a quota is full.
  static absl::StatusOr<PartialFile> Open(const std::string& path);
  ~PartialFile();
  PartialFile(PartialFile&& other) noexcept;
  PartialFile& operator=(PartialFile&&) = delete;

  int64_t size() const { return size_; }
  absl::Status Append(absl::string_view bytes);
  // Drops everything.
  absl::Status Restart();
  // fsyncs it, gives it its name, which may be taken, and fsyncs that.
  absl::Status Publish(const std::string& path);
  const std::string& path() const { return path_; }

 private:
  PartialFile(std::string path, int fd, int64_t size);
  absl::Status Error(const char* action) const;

  std::string path_;
  int fd_;
  int64_t size_;
};

// Writes a small file so that readers see the old content or the new one.
absl::Status ReplaceFile(const std::string& path, absl::string_view content);

// Held by one process at a time, until destroyed or killed.
class FileLock {
 public:
  // Nothing when another process holds it. Makes the file, which stays: to
  // remove it would let two in.
  static absl::StatusOr<bool> TryLock(const std::string& path, FileLock* lock);
  FileLock() = default;
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace pot

#endif  // POT_ENGINE_HUB_PARTIAL_FILE_H_
