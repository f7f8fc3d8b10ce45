#include "engine/base/characters.h"

#include <string>

#include "gtest/gtest.h"

namespace pot {
namespace {

TEST(CharactersTest, NamesAreOfLettersDigitsDotsUnderscoresAndDashes) {
  const std::string kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  for (int c = -128; c < 256; ++c) {
    const auto character = static_cast<char>(c);
    EXPECT_EQ(IsNameCharacter(character),
              kAllowed.find(character) != std::string::npos)
        << c;
  }
  EXPECT_TRUE(IsNameText("-.x_9", 5));
  EXPECT_FALSE(IsNameText("-.x_9", 4));
  EXPECT_FALSE(IsNameText("", 4));
  EXPECT_FALSE(IsNameText("a b", 4));
  EXPECT_FALSE(IsNameText(absl::string_view("a\0b", 3), 4));
  EXPECT_FALSE(IsNameText("\xc3\xa9", 4));
}

TEST(CharactersTest, NamesBeginWithALetterOrDigit) {
  EXPECT_TRUE(IsName("a", 1));
  EXPECT_TRUE(IsName("0-_.", 4));
  for (const char* const name : {"", ".a", "-a", "_a", "..", "a/b", "abcde"}) {
    EXPECT_FALSE(IsName(name, 4)) << name;
  }
}

TEST(CharactersTest, HexIsLowerCaseAndOfItsSize) {
  EXPECT_TRUE(IsLowerHex("0123456789abcdef", 16));
  EXPECT_TRUE(IsLowerHex("", 0));
  EXPECT_FALSE(IsLowerHex("0123456789abcdef", 15));
  EXPECT_FALSE(IsLowerHex("ab", 3));
  for (const char* const text : {"aF", "ag", "a ", "a/", "a:", "a`"}) {
    EXPECT_FALSE(IsLowerHex(text, 2)) << text;
  }
}

}  // namespace
}  // namespace pot
