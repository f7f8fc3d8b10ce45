#ifndef POT_ENGINE_BASE_UTF8_H_
#define POT_ENGINE_BASE_UTF8_H_

#include <cstddef>

#include "absl/strings/string_view.h"

namespace pot {

// Offset of the first byte that is not part of well-formed UTF-8 (RFC 3629:
// no surrogates, no overlong forms, at most U+10FFFF), or text.size().
size_t FindInvalidUtf8(absl::string_view text);

// Length of the longest prefix of `text` that does not end inside a sequence
// which further bytes could still complete. Bytes that can never become
// valid count as complete.
size_t CompleteUtf8Prefix(absl::string_view text);

}  // namespace pot

#endif  // POT_ENGINE_BASE_UTF8_H_
