#ifndef POT_CLIENT_VERSION_UPLOAD_H_
#define POT_CLIENT_VERSION_UPLOAD_H_

#include <string>

#include "absl/status/statusor.h"
#include "client/session.h"
#include "pot/v1/model.pb.h"

namespace pot {

// Uploads the files of `header`, which lie in `directory`, with a bar.
// `manifest`, unless empty, is the content of the last of them, manifest.json,
// which is then not read.
absl::StatusOr<v1::ModelVersion> UploadVersion(
    Session* session, const v1::CheckpointHeader& header,
    const std::string& directory, const std::string& manifest);

}  // namespace pot

#endif  // POT_CLIENT_VERSION_UPLOAD_H_
