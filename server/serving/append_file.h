#ifndef POT_SERVER_SERVING_APPEND_FILE_H_
#define POT_SERVER_SERVING_APPEND_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace pot {

// Writes `text` at offset `size` of the regular file `path`, which is made when
// missing and cut there when longer, and fsyncs it, and a new file's directory.
// After an error the file is cut to `size` again where that is possible.
absl::Status AppendSynced(const std::string& path, int64_t size,
                          absl::string_view text);

}  // namespace pot

#endif  // POT_SERVER_SERVING_APPEND_FILE_H_
