// What an error tells a program, beside its code and message.
#ifndef POT_SERVER_SERVING_ERROR_DETAILS_H_
#define POT_SERVER_SERVING_ERROR_DETAILS_H_

#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace pot {

// Becomes google.rpc.ErrorInfo, RetryInfo and BadRequest on the wire.
struct ErrorDetails {
  std::string reason = {};  // UPPER_SNAKE_CASE; proto/README.md lists them
  std::map<std::string, std::string> metadata = {};  // "limit", "value", ..
  std::optional<absl::Duration> retry_after = {};
  std::string field = {};  // of the request, "sampling.top_p"
  // What the log says in place of the message; never sent. Empty: the message.
  std::string log_message = {};
};

// `status` with `details` attached as a payload. What was attached before
// stays: `details` only fills its gaps. OK comes back as it is.
absl::Status WithDetails(absl::Status status, const ErrorDetails& details);

// `errno` and what could not be done as a status; DISK_BUDGET for a full disk.
absl::Status DiskError(int error, absl::string_view what);

// What was attached; nothing when there was none, or bytes that WithDetails()
// did not write.
std::optional<ErrorDetails> GetDetails(const absl::Status& status);

}  // namespace pot

#endif  // POT_SERVER_SERVING_ERROR_DETAILS_H_
