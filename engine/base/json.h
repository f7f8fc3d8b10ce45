// The fence around nlohmann-json, which throws: parsing returns a Status.
#ifndef POT_ENGINE_BASE_JSON_H_
#define POT_ENGINE_BASE_JSON_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json_fwd.hpp"

namespace pot {

// Nesting that ParseJson accepts; a config or vocabulary needs at most six.
inline constexpr int kMaxJsonDepth = 64;

// Parses one UTF-8 JSON document. INVALID_ARGUMENT, beginning with `what`
// (a file name, say), on a syntax error, duplicate keys of one object, or
// nesting deeper than kMaxJsonDepth. Reading a value of the wrong type out of
// the result throws: check with is_*() first.
absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text,
                                         absl::string_view what);

// How `value` begins, as JSON of at most 60 ASCII characters and "..", for an
// error message.
std::string ShowJson(const nlohmann::json& value);

}  // namespace pot

#endif  // POT_ENGINE_BASE_JSON_H_
