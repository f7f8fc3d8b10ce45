#ifndef POT_SERVER_SERVING_RELATIVE_PATHS_H_
#define POT_SERVER_SERVING_RELATIVE_PATHS_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pot {

// Errors for clients, who need not know where the server keeps its files: a
// path below one of two directories is said relative to it,
// "tiny/1/config.json". ErrorDetails::log_message keeps the whole.
class RelativePaths {
 public:
  // `root` is absolute and without links; `import_root` as an operator gave it,
  // or empty.
  RelativePaths(std::string root, std::string import_root)
      : root_(std::move(root)), import_root_(std::move(import_root)) {}

  absl::Status In(const absl::Status& status) const;
  template <typename T>
  absl::StatusOr<T> In(absl::StatusOr<T> value) const {
    if (value.ok()) return value;
    return In(value.status());
  }

 private:
  const std::string root_;
  const std::string import_root_;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_RELATIVE_PATHS_H_
