// Errors about one field of a request.
#ifndef POT_SERVER_SERVING_FIELD_ERRORS_H_
#define POT_SERVER_SERVING_FIELD_ERRORS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace pot {

// INVALID_ARGUMENT with details. `field` is a path such as "sampling.top_p";
// the message is "<field> <complaint>". Empty limits and values are left out.
absl::Status FieldError(absl::string_view reason, absl::string_view field,
                        absl::string_view complaint, absl::string_view limit,
                        absl::string_view value);

// "<field> must be in <limit>; the given value is <value>".
absl::Status RangeError(absl::string_view field, absl::string_view limit,
                        absl::string_view value);

absl::Status CheckRange(absl::string_view field, int64_t value, int64_t low,
                        int64_t high);

// `in_range` is computed by the caller, so that NaN is outside of all ranges.
absl::Status CheckFloatRange(absl::string_view field, float value,
                             bool in_range, absl::string_view limit);

// From `low` to `high` bytes.
absl::Status CheckBytes(absl::string_view field, absl::string_view text,
                        int64_t low, int64_t high);

// IsSha256Hex() of the engine.
absl::Status CheckSha256(absl::string_view field, absl::string_view text);

// IsName() of the engine: safe as the name of a file.
absl::Status CheckFileName(absl::string_view field, absl::string_view name,
                           int64_t max_bytes);

// At most `limit` entries.
absl::Status CheckEntries(absl::string_view field, int64_t count,
                          int64_t limit);

absl::Status CheckTokenId(absl::string_view field, int32_t id,
                          int64_t vocab_size);

// Hostile text for a message: escaped, at most 64 bytes of it, in quotes.
std::string Quoted(absl::string_view text);

}  // namespace pot

#endif  // POT_SERVER_SERVING_FIELD_ERRORS_H_
