#include "engine/base/utf8.h"

#include <string>

#include "gtest/gtest.h"

namespace pot {
namespace {

// `code_point` as RFC 3629 writes it, with no check whether it may be.
std::string EncodeUtf8(uint32_t code_point) {
  std::string s;
  if (code_point < 0x80) {
    s += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    s += static_cast<char>(0xC0 | code_point >> 6);
    s += static_cast<char>(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    s += static_cast<char>(0xE0 | code_point >> 12);
    s += static_cast<char>(0x80 | (code_point >> 6 & 0x3F));
    s += static_cast<char>(0x80 | (code_point & 0x3F));
  } else {
    s += static_cast<char>(0xF0 | code_point >> 18);
    s += static_cast<char>(0x80 | (code_point >> 12 & 0x3F));
    s += static_cast<char>(0x80 | (code_point >> 6 & 0x3F));
    s += static_cast<char>(0x80 | (code_point & 0x3F));
  }
  return s;
}

TEST(Utf8Test, EveryCodePointButSurrogatesIsWellFormed) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    const std::string text = EncodeUtf8(c);
    const Utf8Unit unit = FirstUtf8Unit(text);
    const bool surrogate = c >= 0xD800 && c < 0xE000;
    ASSERT_EQ(unit.code_point, surrogate ? -1 : static_cast<int32_t>(c)) << c;
    ASSERT_FALSE(unit.incomplete) << c;
    ASSERT_EQ(unit.length, surrogate ? 1 : text.size()) << c;
  }
}

TEST(Utf8Test, FindsTheFirstInvalidByte) {
  EXPECT_EQ(FindInvalidUtf8(""), 0);
  EXPECT_EQ(FindInvalidUtf8("plain ASCII text, longer than a word"), 36);
  EXPECT_EQ(FindInvalidUtf8("\xC3\xA9\xF0\x9F\x98\x80"), 6);
  struct Case {
    std::string bytes;
    const char* what;
  };
  for (const Case& c : {Case{"\x80", "lone continuation"},
                        {"\xC0\x80", "overlong NUL"},
                        {"\xC1\xBF", "overlong ASCII"},
                        {"\xE0\x9F\xBF", "overlong of three"},
                        {"\xED\xA0\x80", "surrogate"},
                        {"\xF0\x8F\xBF\xBF", "overlong of four"},
                        {"\xF4\x90\x80\x80", "over U+10FFFF"},
                        {"\xF5\x80\x80\x80", "no first byte"},
                        {"\xFF", "never a byte of UTF-8"},
                        {"\xE2\x82", "cut short"},
                        {"\xE2\x82"
                         "A",
                         "broken off"}}) {
    EXPECT_EQ(FindInvalidUtf8("eight by\xC3\xA9" + c.bytes), 10) << c.what;
    EXPECT_EQ(FindInvalidUtf8(c.bytes), 0) << c.what;
  }
}

// Every prefix of a well-formed text ends at the last whole character.
TEST(Utf8Test, CompletePrefixOfEveryCut) {
  for (const std::string& character :
       {std::string("A"), std::string("\xC3\xA9"), std::string("\xE2\x82\xAC"),
        std::string("\xED\x9F\xBF"), std::string("\xF0\x9F\x98\x80"),
        std::string("\xF4\x8F\xBF\xBF")}) {
    const std::string text = "x\xC3\xA9" + character;
    for (size_t cut = 1; cut < character.size(); ++cut) {
      EXPECT_EQ(CompleteUtf8Prefix(text.substr(0, 3 + cut)), 3) << cut;
    }
    EXPECT_EQ(CompleteUtf8Prefix(text), text.size());
  }
  EXPECT_EQ(CompleteUtf8Prefix(""), 0);
}

TEST(Utf8Test, HopelessBytesCountAsComplete) {
  EXPECT_EQ(CompleteUtf8Prefix("\x80"), 1);
  EXPECT_EQ(CompleteUtf8Prefix("\xC0"), 1);
  EXPECT_EQ(CompleteUtf8Prefix("\xE0\x80"), 2);
  EXPECT_EQ(CompleteUtf8Prefix("\xED\xA0"), 2);
  EXPECT_EQ(CompleteUtf8Prefix("\xF4\x90\x80"), 3);
  EXPECT_EQ(CompleteUtf8Prefix("\xF8"), 1);
  EXPECT_EQ(CompleteUtf8Prefix("\x80\x80\x80\x80"), 4);
  EXPECT_EQ(CompleteUtf8Prefix("\xC3\xA9\x80"), 3);
}

// Unicode 15, tables 3-8 to 3-11: examples of the recommended practice.
TEST(Utf8Test, ReplacesMaximalSubparts) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(ReplaceInvalidUtf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(ReplaceInvalidUtf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(ReplaceInvalidUtf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(ReplaceInvalidUtf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"),
            r + r + r + r + "A");
  EXPECT_EQ(ReplaceInvalidUtf8("well-formed \xC3\xA9"), "well-formed \xC3\xA9");
  EXPECT_EQ(ReplaceInvalidUtf8(""), "");
}

}  // namespace
}  // namespace pot
