#ifndef POT_CLIENT_TEXT_FILE_H_
#define POT_CLIENT_TEXT_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/console.h"
#include "client/interrupter.h"

namespace pot {

// A file, pipe or standard input ("-") that is read from where it stands when
// opened, once or several times.
class TextFile {
 public:
  // NOT_FOUND or INVALID_ARGUMENT, naming the path, when it cannot be opened.
  // With `rereadable` what is no regular file is first copied into an unnamed
  // temporary one.
  static absl::StatusOr<TextFile> Open(const std::string& path,
                                       const Console& console, bool rereadable,
                                       const Interrupter& interrupter);
  TextFile(TextFile&& other) noexcept;
  TextFile& operator=(TextFile&&) = delete;
  ~TextFile();

  // Back to where it began. Only when regular or opened as rereadable.
  absl::Status Rewind();

  int fd() const { return fd_; }
  // Bytes; 0 when unknown.
  int64_t size() const { return size_; }
  // For people: "standard input" or the path.
  const std::string& name() const { return name_; }

 private:
  TextFile(int fd, bool owned, std::string name);

  int fd_;
  bool owned_;
  int64_t begin_ = 0;
  int64_t size_ = 0;
  std::string name_;
};

}  // namespace pot

#endif  // POT_CLIENT_TEXT_FILE_H_
