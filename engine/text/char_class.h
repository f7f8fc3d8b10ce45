// The character classes of GPT-2's pre-tokenizer.
#ifndef POT_ENGINE_TEXT_CHAR_CLASS_H_
#define POT_ENGINE_TEXT_CHAR_CLASS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace pot {

enum class CharClass : uint8_t {
  kOther,
  kLetter,  // \p{L}
  kNumber,  // \p{N}
  kSpace,   // \s
};

// Letters and numbers are those of the Unicode version that PCRE2 was built
// with (10.42: Unicode 14). Spaces are ECMAScript's \s, a fixed list of 25,
// because js-tiktoken is the reference: PCRE2's \s would add U+0085 and
// U+180E, and both PCRE2's and Unicode's White_Space lack U+FEFF.
class CharClasses {
 public:
  // The table of this process, built on the first call. FAILED_PRECONDITION
  // when PCRE2 was built without Unicode.
  static absl::StatusOr<const CharClasses*> Get();

  // `code_point` in [0, 0x10FFFF].
  CharClass Of(int32_t code_point) const {
    return pages_[page_of_[code_point / kPageSize]][code_point % kPageSize];
  }

 private:
  static constexpr int32_t kPageSize = 256;
  static constexpr int32_t kNumPages = 0x110000 / kPageSize;
  using Page = std::array<CharClass, kPageSize>;

  static absl::StatusOr<CharClasses> Build();

  // Equal pages are stored once.
  std::array<uint16_t, kNumPages> page_of_{};
  std::vector<Page> pages_;
};

}  // namespace pot

#endif  // POT_ENGINE_TEXT_CHAR_CLASS_H_
