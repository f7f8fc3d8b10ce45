#ifndef POT_TRAINER_MODEL_SOURCE_H_
#define POT_TRAINER_MODEL_SOURCE_H_

#include <string>

#include "absl/status/statusor.h"

namespace pot {

// What commands take a float model from: a directory, as it is, or
// "hf:OWNER/NAME[@REVISION]", which is downloaded into the cache with a bar on
// standard error; the directory there. A directory of such a name is "./hf:..".
// Errors as DownloadHubModel.
absl::StatusOr<std::string> ResolveModelSource(const std::string& source);

}  // namespace pot

#endif  // POT_TRAINER_MODEL_SOURCE_H_
