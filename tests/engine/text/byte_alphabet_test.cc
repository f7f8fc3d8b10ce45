#include "engine/text/byte_alphabet.h"

#include <set>

#include "gtest/gtest.h"

namespace pot {
namespace {

TEST(ByteAlphabetTest, KnownSpellings) {
  EXPECT_EQ(SpellBytes("Az~!"), "Az~!");
  EXPECT_EQ(SpellBytes(" "), "\xC4\xA0");                   // U+0120
  EXPECT_EQ(SpellBytes("\n"), "\xC4\x8A");                  // U+010A
  EXPECT_EQ(SpellBytes(std::string(1, '\0')), "\xC4\x80");  // U+0100
  EXPECT_EQ(CodePointOfByte(0x7F), 0x121);
  EXPECT_EQ(CodePointOfByte(0xA0), 0x142);
  EXPECT_EQ(CodePointOfByte(0xA1), 0xA1);
  EXPECT_EQ(CodePointOfByte(0xAD), 0x143);
  EXPECT_EQ(CodePointOfByte(0xFF), 0xFF);
}

TEST(ByteAlphabetTest, EveryByteGoesThereAndBack) {
  std::set<int32_t> code_points;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string bytes(1, static_cast<char>(byte));
    EXPECT_EQ(UnspellBytes(SpellBytes(bytes)), bytes) << byte;
    EXPECT_TRUE(code_points.insert(CodePointOfByte(byte)).second) << byte;
  }
}

TEST(ByteAlphabetTest, CharactersOutsideTheAlphabet) {
  for (const char* spelling : {" ", "\n", "a b", "\x7F", "\xC2\xA0", "\xC2\xAD",
                               "\xC5\x84", "\xE4\xB8\x96"}) {
    EXPECT_EQ(UnspellBytes(spelling), std::nullopt) << spelling;
  }
}

}  // namespace
}  // namespace pot
