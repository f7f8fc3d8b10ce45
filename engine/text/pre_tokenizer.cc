#include "engine/text/pre_tokenizer.h"

#include <cstdint>

#include "engine/base/utf8.h"

namespace pot {
namespace {

struct Character {
  size_t length;
  CharClass char_class;
};

Character CharacterAt(absl::string_view text, size_t offset,
                      const CharClasses& classes) {
  const uint8_t byte = static_cast<uint8_t>(text[offset]);
  if (byte < 0x80) return {1, classes.Of(byte)};
  const Utf8Unit unit = FirstUtf8Unit(text.substr(offset));
  return {unit.length, classes.Of(unit.code_point)};
}

// Length of '(?:[sdmt]|ll|ve|re) at the beginning of `text`, or 0.
size_t ContractionLength(absl::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const char c = text[1];
  if (c == 's' || c == 'd' || c == 'm' || c == 't') return 2;
  const absl::string_view two = text.substr(1, 2);
  return two == "ll" || two == "ve" || two == "re" ? 3 : 0;
}

}  // namespace

size_t FirstPieceLength(absl::string_view text, const CharClasses& classes) {
  const size_t contraction = ContractionLength(text);
  if (contraction > 0) return contraction;

  Character last = CharacterAt(text, 0, classes);
  size_t end = last.length;
  // " ?": one U+0020 goes with the run that follows it.
  if (text[0] == ' ' && end < text.size()) {
    const Character second = CharacterAt(text, end, classes);
    if (second.char_class != CharClass::kSpace) {
      last = second;
      end += second.length;
    }
  }
  const CharClass run = last.char_class;
  while (end < text.size()) {
    const Character next = CharacterAt(text, end, classes);
    if (next.char_class != run) {
      // \s+(?!\S): white space before something else gives back its last
      // character, unless it is the only one.
      const bool gives_back = run == CharClass::kSpace && end > last.length;
      return gives_back ? end - last.length : end;
    }
    last = next;
    end += next.length;
  }
  return end;
}

}  // namespace pot
