#include "engine/base/crc32c.h"

#include <numeric>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace pot {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes Counting(uint8_t first, int step) {
  Bytes bytes(32);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<uint8_t>(first + step * static_cast<int>(i));
  }
  return bytes;
}

// The vectors of RFC 3720, B.4, and the usual check value.
TEST(Crc32cTest, GivesThePublishedValues) {
  const std::string digits = "123456789";
  const struct {
    Bytes bytes;
    uint32_t crc;
  } vectors[] = {
      {{}, 0},
      {Bytes(digits.begin(), digits.end()), 0xE3069283},
      {Bytes(32, 0x00), 0x8A9136AA},
      {Bytes(32, 0xFF), 0x62A8AB43},
      {Counting(0, 1), 0x46DD794E},
      {Counting(31, -1), 0x113FDB5C},
      {{0x01, 0xC0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0, 0, 0,
        0x14, 0,    0, 0, 0, 0, 4, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18,
        0x28, 0,    0, 0, 0, 0, 0, 0, 2, 0, 0, 0,    0, 0, 0, 0},
       0xD9963A56},
  };
  for (const auto& vector : vectors) {
    EXPECT_EQ(Crc32c(vector.bytes), vector.crc);
    EXPECT_EQ(Crc32cByTables(vector.bytes), vector.crc);
  }
}

TEST(Crc32cTest, IsTheSameForEveryCutAndAlignment) {
  Bytes bytes(100);
  std::iota(bytes.begin(), bytes.end(), uint8_t{7});
  const auto all = absl::MakeConstSpan(bytes);
  for (size_t begin = 0; begin < 9; ++begin) {
    const auto part = all.subspan(begin);
    const uint32_t whole = Crc32cByTables(part);
    EXPECT_EQ(Crc32c(part), whole);
    for (size_t cut = 0; cut <= part.size(); ++cut) {
      EXPECT_EQ(Crc32c(part.subspan(cut), Crc32c(part.first(cut))), whole);
      EXPECT_EQ(
          Crc32cByTables(part.subspan(cut), Crc32cByTables(part.first(cut))),
          whole);
    }
  }
}

}  // namespace
}  // namespace pot
