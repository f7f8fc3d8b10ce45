#ifndef POT_ENGINE_BASE_UTF8_H_
#define POT_ENGINE_BASE_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace pot {

// What a text begins with: a well-formed UTF-8 sequence (RFC 3629: no
// surrogates, no overlong forms, at most U+10FFFF) or a maximal ill-formed
// subpart (Unicode 3.9, definition D93b).
struct Utf8Unit {
  size_t length;       // bytes, 1..4
  int32_t code_point;  // -1 when ill-formed
  bool incomplete;     // ill-formed only because the text ends
};

// `text` must not be empty.
Utf8Unit FirstUtf8Unit(absl::string_view text);

// Appends the encoding of a scalar value (not a surrogate) to `text`.
void AppendUtf8(int32_t code_point, std::string* text);

// Offset of the first byte that is not part of well-formed UTF-8, or
// text.size().
size_t FindInvalidUtf8(absl::string_view text);

// Length of the longest prefix of `text` that does not end inside a sequence
// which further bytes could still complete. Bytes that can never become
// valid count as complete.
size_t CompleteUtf8Prefix(absl::string_view text);

// `text` with U+FFFD in place of every maximal ill-formed subpart.
std::string ReplaceInvalidUtf8(absl::string_view text);

}  // namespace pot

#endif  // POT_ENGINE_BASE_UTF8_H_
