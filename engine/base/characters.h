// What names and digests are made of. All of ASCII, whatever the locale.
#ifndef POT_ENGINE_BASE_CHARACTERS_H_
#define POT_ENGINE_BASE_CHARACTERS_H_

#include <algorithm>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/string_view.h"

namespace pot {

// [A-Za-z0-9._-]: safe in a file name, a URL, a metric's label and a shell.
inline bool IsNameCharacter(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' ||
         c == '_' || c == '-';
}

// 1 to `max_bytes` of them.
inline bool IsNameText(absl::string_view text, size_t max_bytes) {
  return !text.empty() && text.size() <= max_bytes &&
         std::all_of(text.begin(), text.end(), IsNameCharacter);
}

// The same, and the first is a letter or a digit: neither a hidden file, nor a
// way up, nor a flag.
inline bool IsName(absl::string_view text, size_t max_bytes) {
  return IsNameText(text, max_bytes) &&
         absl::ascii_isalnum(static_cast<unsigned char>(text.front()));
}

// `size` lower-case hexadecimal digits.
inline bool IsLowerHex(absl::string_view text, size_t size) {
  return text.size() == size &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace pot

#endif  // POT_ENGINE_BASE_CHARACTERS_H_
