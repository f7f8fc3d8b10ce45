// Text from outside in error messages: UTF-8 whatever it was, of one line,
// short.
#ifndef POT_ENGINE_BASE_QUOTE_H_
#define POT_ENGINE_BASE_QUOTE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace pot {

// `text` in double quotes, with control characters, quotes and backslashes
// escaped as in C, and, when it is not UTF-8, every byte beyond ASCII. Of more
// than 80 bytes the first are shown, no character split, and their number is
// said: "abc".. (5000 bytes).
std::string Quote(absl::string_view text);

}  // namespace pot

#endif  // POT_ENGINE_BASE_QUOTE_H_
