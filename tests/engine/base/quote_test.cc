#include "engine/base/quote.h"

#include <string>

#include "engine/base/utf8.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

TEST(Quote, EscapesWhatWouldSpoilAMessage) {
  EXPECT_EQ(Quote(""), "\"\"");
  EXPECT_EQ(Quote("h.0.attn"), "\"h.0.attn\"");
  EXPECT_EQ(Quote("a\nb\t\"c\"\\"), R"("a\nb\t\"c\"\\")");
  EXPECT_EQ(Quote(std::string("\0\x1b[31m\x7f", 7)), R"("\000\033[31m\177")");
}

TEST(Quote, KeepsUtf8AndEscapesAllElse) {
  EXPECT_EQ(Quote("Stra\u00dfe \u4e2d"), "\"Stra\u00dfe \u4e2d\"");
  // Not UTF-8: then nothing beyond ASCII is taken for a character.
  EXPECT_EQ(Quote("\xc3\x9f\xff"), R"("\303\237\377")");
  // A surrogate and an overlong slash.
  EXPECT_EQ(Quote("\xed\xa0\x80"), R"("\355\240\200")");
  EXPECT_EQ(Quote("\xc0\xaf"), R"("\300\257")");
}

TEST(Quote, ShowsTheFirst80BytesAndTheNumberOfAll) {
  const std::string eighty(80, 'n');
  EXPECT_EQ(Quote(eighty), "\"" + eighty + "\"");
  EXPECT_EQ(Quote(eighty + "n"), "\"" + eighty + "\".. (81 bytes)");
  EXPECT_EQ(Quote(std::string(1 << 20, 'n')),
            "\"" + eighty + "\".. (1048576 bytes)");
}

TEST(Quote, SplitsNoCharacter) {
  // The two bytes of the last sharp s stand on both sides of the cut.
  const std::string text = std::string(79, 'n') + "\u00df";
  EXPECT_EQ(Quote(text), "\"" + std::string(79, 'n') + "\".. (81 bytes)");
  // Whatever is cut, the message is UTF-8.
  for (size_t ascii = 70; ascii < 82; ++ascii) {
    const std::string quoted =
        Quote(std::string(ascii, 'n') + "\U0001f600\xff");
    EXPECT_EQ(FindInvalidUtf8(quoted), quoted.size()) << ascii;
  }
}

}  // namespace
}  // namespace pot
