#ifndef POT_ENGINE_CHECKPOINT_QUOTE_H_
#define POT_ENGINE_CHECKPOINT_QUOTE_H_

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/utf8.h"

namespace pot {

// A name from outside as error messages show it: UTF-8 whatever its bytes are,
// quoted, control characters escaped, cut after 80 bytes.
inline std::string Quote(absl::string_view name) {
  constexpr size_t kMaxShown = 80;
  if (name.size() <= kMaxShown) {
    const bool utf8 = FindInvalidUtf8(name) == name.size();
    return absl::StrCat(
        "\"", utf8 ? absl::Utf8SafeCEscape(name) : absl::CEscape(name), "\"");
  }
  return absl::StrCat("\"", absl::CEscape(name.substr(0, kMaxShown)), "\".. (",
                      name.size(), " bytes)");
}

}  // namespace pot

#endif  // POT_ENGINE_CHECKPOINT_QUOTE_H_
