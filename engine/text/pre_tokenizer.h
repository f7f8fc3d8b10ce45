#ifndef POT_ENGINE_TEXT_PRE_TOKENIZER_H_
#define POT_ENGINE_TEXT_PRE_TOKENIZER_H_

#include <cstddef>

#include "absl/strings/string_view.h"
#include "engine/text/char_class.h"

namespace pot {

// Length in bytes of the first match in `text` (well-formed UTF-8, not empty)
// of GPT-2's pre-tokenizer, which splits every text without remainder:
//
//   '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// Time is linear in the result plus the white space that follows it; splitting
// a whole text looks at each character at most three times.
size_t FirstPieceLength(absl::string_view text, const CharClasses& classes);

}  // namespace pot

#endif  // POT_ENGINE_TEXT_PRE_TOKENIZER_H_
