// What a worker announces before it sends files.
#ifndef POT_SERVER_TRAINING_UPLOAD_HEADER_H_
#define POT_SERVER_TRAINING_UPLOAD_HEADER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pot/v1/worker.pb.h"

namespace pot {

inline constexpr int kMaxUploadedFiles = 64;
// Of a file's name and of identifiers.
inline constexpr size_t kMaxUploadedNameBytes = 128;

enum class UploadKind { kSnapshot, kCheckpoint };

// INVALID_ARGUMENT, naming `field`, unless `name` is a single step of a path
// and not hidden.
absl::Status CheckUploadName(absl::string_view name, const std::string& field);

// The bytes of all files. `prefix` is the header's field in its message.
// INVALID_ARGUMENT for names, digests and sizes outside
// of their limits, RESOURCE_EXHAUSTED (UPLOAD_TOO_LARGE) beyond `max_bytes`.
absl::StatusOr<int64_t> CheckUploadHeader(const v1::UploadHeader& header,
                                          int64_t max_bytes,
                                          const std::string& prefix);

// As the file "header" of an upload's directory; what is read has no job_id.
absl::Status WriteUploadHeader(const std::string& directory, UploadKind kind,
                               const v1::UploadHeader& header);
absl::StatusOr<v1::UploadHeader> ReadUploadHeader(const std::string& directory,
                                                  UploadKind* kind);

// The same files of the same step.
bool SameUploadedFiles(const v1::UploadHeader& a, const v1::UploadHeader& b);

}  // namespace pot

#endif  // POT_SERVER_TRAINING_UPLOAD_HEADER_H_
