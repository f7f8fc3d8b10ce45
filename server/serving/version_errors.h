// Errors about versions, with the codes and details of proto/README.md.
#ifndef POT_SERVER_SERVING_VERSION_ERRORS_H_
#define POT_SERVER_SERVING_VERSION_ERRORS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/serving/model_version.h"

namespace pot {

absl::Status ModelNotFound(absl::string_view name);
absl::Status VersionNotFound(absl::string_view name, int64_t version);
absl::Status DigestNotFound(absl::string_view name, absl::string_view digest);
absl::Status AliasNotFound(absl::string_view name, absl::string_view alias);

// Why a version that is not AVAILABLE cannot answer: UNAVAILABLE
// (MODEL_LOADING, DRAINING) or FAILED_PRECONDITION (VERSION_FAILED,
// VERSION_UNLOADED).
absl::Status NotServing(const ModelVersionInfo& info);

// DEADLINE_EXCEEDED while the version is still in its state.
absl::Status WaitedTooLong(const ModelVersionInfo& info);

// FAILED_PRECONDITION (VERSION_LOADED).
absl::Status StillLoaded(const ModelVersionInfo& info);

// An INVALID_ARGUMENT as INVALID_FIELD of `field`; every other status as it is.
absl::Status InvalidField(const absl::Status& status, absl::string_view field);

}  // namespace pot

#endif  // POT_SERVER_SERVING_VERSION_ERRORS_H_
