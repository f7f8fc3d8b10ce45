#include "engine/base/quote.h"

#include <cstddef>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/utf8.h"

namespace pot {

std::string Quote(absl::string_view text) {
  constexpr size_t kMaxShown = 80;
  absl::string_view shown = text.substr(0, kMaxShown);
  if (shown.size() < text.size()) {
    shown = shown.substr(0, CompleteUtf8Prefix(shown));
  }
  const bool utf8 = FindInvalidUtf8(shown) == shown.size();
  std::string quoted = absl::StrCat(
      "\"", utf8 ? absl::Utf8SafeCEscape(shown) : absl::CEscape(shown), "\"");
  if (shown.size() < text.size()) {
    absl::StrAppend(&quoted, ".. (", text.size(), " bytes)");
  }
  return quoted;
}

}  // namespace pot
