#include "engine/text/byte_alphabet.h"

#include <array>

#include "engine/base/utf8.h"

namespace pot {
namespace {

// One more than the highest code point of the alphabet: 68 bytes are moved.
constexpr int32_t kEnd = 0x100 + 68;

constexpr bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

struct Alphabet {
  std::array<int32_t, 256> code_point_of_byte{};
  std::array<int16_t, kEnd> byte_of_code_point{};  // -1: none
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet;
  for (int16_t& byte : alphabet.byte_of_code_point) byte = -1;
  int32_t moved = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const int32_t code_point = StandsForItself(byte) ? byte : moved++;
    alphabet.code_point_of_byte[byte] = code_point;
    alphabet.byte_of_code_point[code_point] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();
static_assert(kAlphabet.byte_of_code_point[kEnd - 1] == 0xAD);

}  // namespace

int32_t CodePointOfByte(uint8_t byte) {
  return kAlphabet.code_point_of_byte[byte];
}

std::string SpellBytes(absl::string_view bytes) {
  std::string spelling;
  for (const char c : bytes) {
    AppendUtf8(CodePointOfByte(static_cast<uint8_t>(c)), &spelling);
  }
  return spelling;
}

std::optional<std::string> UnspellBytes(absl::string_view spelling) {
  std::string bytes;
  while (!spelling.empty()) {
    const Utf8Unit unit = FirstUtf8Unit(spelling);
    if (unit.code_point < 0 || unit.code_point >= kEnd) return std::nullopt;
    const int16_t byte = kAlphabet.byte_of_code_point[unit.code_point];
    if (byte < 0) return std::nullopt;
    bytes += static_cast<char>(byte);
    spelling.remove_prefix(unit.length);
  }
  return bytes;
}

}  // namespace pot
