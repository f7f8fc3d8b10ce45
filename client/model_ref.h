#ifndef POT_CLIENT_MODEL_REF_H_
#define POT_CLIENT_MODEL_REF_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pot/v1/common.pb.h"

namespace pot {

// NAME, NAME@VERSION (digits), NAME@ALIAS or NAME@sha256:HEX.
// INVALID_ARGUMENT, saying which part is wrong, otherwise.
absl::StatusOr<v1::ModelRef> ParseModelRef(absl::string_view text);

// The inverse.
std::string FormatModelRef(const v1::ModelRef& model);

// A model's or an alias's name: 1-64 of [A-Za-z0-9._-], beginning with a
// letter or digit. `what` begins the error.
absl::Status CheckName(absl::string_view what, absl::string_view name);

}  // namespace pot

#endif  // POT_CLIENT_MODEL_REF_H_
