#include "engine/text/char_class.h"

#include <vector>

#include "gtest/gtest.h"

namespace pot {
namespace {

TEST(CharClassTest, Examples) {
  const absl::StatusOr<const CharClasses*> classes = CharClasses::Get();
  ASSERT_TRUE(classes.ok()) << classes.status();
  for (int32_t letter :
       std::vector<int32_t>{'a', 'Z', 0xAA, 0xE9, 0x1C5, 0x2B0, 0x5D0, 0x4E00,
                            0xAC00, 0x10400, 0x2EBE0, 0x3134A}) {
    EXPECT_EQ((*classes)->Of(letter), CharClass::kLetter) << letter;
  }
  for (int32_t number : std::vector<int32_t>{
           '0', '9', 0xB2, 0xBD, 0x661, 0x2160, 0x3007, 0x1D7CE, 0x1FBF9}) {
    EXPECT_EQ((*classes)->Of(number), CharClass::kNumber) << number;
  }
  for (int32_t other : std::vector<int32_t>{
           0, '!', '_', 0x7F, 0x85, 0xAD, 0x301, 0x180E, 0x200B, 0x200D,
           0x2028 - 1, 0xD800, 0xDFFF, 0xE000, 0xFFFD, 0x1F600, 0x10FFFF}) {
    EXPECT_EQ((*classes)->Of(other), CharClass::kOther) << other;
  }
}

// ECMA-262, tables "White Space" and "Line Terminator" with the characters of
// category Zs.
TEST(CharClassTest, SpacesAreThoseOfEcmaScript) {
  std::vector<int32_t> spaces;
  for (int32_t c = 0; c < 0x110000; ++c) {
    if ((*CharClasses::Get())->Of(c) == CharClass::kSpace) spaces.push_back(c);
  }
  EXPECT_EQ(spaces, (std::vector<int32_t>{
                        0x0009, 0x000A, 0x000B, 0x000C, 0x000D, 0x0020, 0x00A0,
                        0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005,
                        0x2006, 0x2007, 0x2008, 0x2009, 0x200A, 0x2028, 0x2029,
                        0x202F, 0x205F, 0x3000, 0xFEFF}));
}

// Unicode never takes a letter or number away, so the counts of Unicode 14
// (131 756 of category L, 1 791 of N) bound those of any later version.
TEST(CharClassTest, AtLeastUnicode14) {
  int letters = 0;
  int numbers = 0;
  for (int32_t c = 0; c < 0x110000; ++c) {
    letters += (*CharClasses::Get())->Of(c) == CharClass::kLetter;
    numbers += (*CharClasses::Get())->Of(c) == CharClass::kNumber;
  }
  EXPECT_GE(letters, 131756);
  EXPECT_GE(numbers, 1791);
}

}  // namespace
}  // namespace pot
