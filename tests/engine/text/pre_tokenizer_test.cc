#include "engine/text/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <random>
#include <string>
#include <vector>

#include "engine/base/utf8.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using Pieces = std::vector<std::string>;

Pieces Split(absl::string_view text) {
  Pieces pieces;
  while (!text.empty()) {
    const size_t length = FirstPieceLength(text, **CharClasses::Get());
    if (length == 0 || length > text.size()) {
      ADD_FAILURE() << "length " << length << " of " << text.size();
      break;
    }
    pieces.emplace_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return pieces;
}

TEST(PreTokenizerTest, Examples) {
  EXPECT_EQ(Split(""), Pieces{});
  EXPECT_EQ(Split("Hello world, it's 42!"),
            (Pieces{"Hello", " world", ",", " it", "'s", " 42", "!"}));
  EXPECT_EQ(Split("I'LL we'll 'tis '"),
            (Pieces{"I", "'", "LL", " we", "'ll", " '", "tis", " '"}));
  EXPECT_EQ(Split("!'s  x"), (Pieces{"!'", "s", " ", " x"}));
  EXPECT_EQ(Split("a   b\n\n c \t"),
            (Pieces{"a", "  ", " b", "\n\n", " c", " \t"}));
  EXPECT_EQ(Split("a\n\nb"), (Pieces{"a", "\n", "\n", "b"}));
  EXPECT_EQ(Split("\xC2\xA0\xC2\xA0x"), (Pieces{"\xC2\xA0", "\xC2\xA0", "x"}));
  EXPECT_EQ(Split("e\xCC\x81"
                  "a"),
            (Pieces{"e", "\xCC\x81", "a"}));
}

// The regular expression itself, with ECMAScript's \s spelled out.
class ReferenceSplitter {
 public:
  ReferenceSplitter() {
    const std::string s =
        R"(\t-\r \x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F})"
        R"(\x{205F}\x{3000}\x{FEFF})";
    const std::string pattern =
        "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^" + s +
        "\\p{L}\\p{N}]+|[" + s + "]+(?![^" + s + "])|[" + s + "]+";
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()),
                          pattern.size(), PCRE2_UTF | PCRE2_UCP, &error,
                          &offset, nullptr);
    EXPECT_NE(code_, nullptr) << error << " at " << offset;
    match_ = pcre2_match_data_create_from_pattern(code_, nullptr);
  }
  ~ReferenceSplitter() {
    pcre2_match_data_free(match_);
    pcre2_code_free(code_);
  }

  Pieces Split(const std::string& text) const {
    Pieces pieces;
    for (size_t start = 0; start < text.size();) {
      const int count =
          pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()),
                      text.size(), start, PCRE2_ANCHORED, match_, nullptr);
      EXPECT_GT(count, 0);
      if (count <= 0) break;
      const size_t end = pcre2_get_ovector_pointer(match_)[1];
      pieces.push_back(text.substr(start, end - start));
      start = end;
    }
    return pieces;
  }

 private:
  pcre2_code* code_;
  pcre2_match_data* match_;
};

TEST(PreTokenizerTest, EqualsTheRegularExpressionOnRandomText) {
  const ReferenceSplitter reference;
  const int32_t alphabet[] = {
      ' ',   ' ',    ' ',    '\n',   '\t',   '\'',   '\'',    's',
      't',   'l',    'l',    'v',    'e',    'r',    'S',     'x',
      '7',   '!',    '-',    0,      0x85,   0xA0,   0xE9,    0x301,
      0x661, 0x2028, 0x3000, 0x4E00, 0xFEFF, 0x180E, 0x1F600, 0x1D7CE};
  std::mt19937 random(2);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (int length = random() % 14; length > 0; --length) {
      AppendUtf8(alphabet[random() % std::size(alphabet)], &text);
    }
    ASSERT_EQ(Split(text), reference.Split(text))
        << testing::PrintToString(text);
  }
}

// Every code point between a letter and a space, alone and doubled.
TEST(PreTokenizerTest, EqualsTheRegularExpressionOnEveryCharacter) {
  const ReferenceSplitter reference;
  for (int32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text = "a";
    AppendUtf8(c, &text);
    text += " ";
    AppendUtf8(c, &text);
    AppendUtf8(c, &text);
    text += "1";
    ASSERT_EQ(Split(text), reference.Split(text)) << c;
  }
}

}  // namespace
}  // namespace pot
