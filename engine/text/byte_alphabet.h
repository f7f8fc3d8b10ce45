// GPT-2's spelling of bytes: vocabulary files write each byte of a token as
// one printable character, so that no token holds blanks or broken UTF-8.
#ifndef POT_ENGINE_TEXT_BYTE_ALPHABET_H_
#define POT_ENGINE_TEXT_BYTE_ALPHABET_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace pot {

// Bytes 21..7E, A1..AC and AE..FF stand for the code points of the same
// number; the 68 others for U+0100, U+0101, ... in ascending order.
int32_t CodePointOfByte(uint8_t byte);

// `bytes` in the alphabet, as UTF-8.
std::string SpellBytes(absl::string_view bytes);

// The bytes that well-formed UTF-8 `spelling` stands for; nothing when it has
// a character outside the alphabet.
std::optional<std::string> UnspellBytes(absl::string_view spelling);

}  // namespace pot

#endif  // POT_ENGINE_TEXT_BYTE_ALPHABET_H_
