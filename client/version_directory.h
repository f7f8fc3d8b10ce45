#ifndef POT_CLIENT_VERSION_DIRECTORY_H_
#define POT_CLIENT_VERSION_DIRECTORY_H_

#include <string>

#include "absl/status/statusor.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "pot/v1/model.pb.h"

namespace pot {

// The files of a version's directory as its manifest.json lists them, and the
// manifest itself last. NOT_FOUND without a manifest, INVALID_ARGUMENT for one
// that is malformed, DATA_LOSS when a file is missing or has another size;
// digests are the receiver's to check.
absl::StatusOr<google::protobuf::RepeatedPtrField<v1::FileInfo>>
ListVersionDirectory(const std::string& directory);

}  // namespace pot

#endif  // POT_CLIENT_VERSION_DIRECTORY_H_
