#ifndef POT_CLIENT_JOB_SPEC_FILE_H_
#define POT_CLIENT_JOB_SPEC_FILE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pot/v1/qat_job.pb.h"

namespace pot {

// A specification as proto3 JSON, with the names of qat_job.proto or their
// lowerCamelCase. INVALID_ARGUMENT on one line that begins with `what` and
// names the field and, where there are few, what it may be or hold.
absl::StatusOr<v1::QatJobSpec> ParseJobSpec(absl::string_view json,
                                            absl::string_view what);

// The same from a file of at most 1 MiB.
absl::StatusOr<v1::QatJobSpec> ReadJobSpec(const std::string& path);

}  // namespace pot

#endif  // POT_CLIENT_JOB_SPEC_FILE_H_
