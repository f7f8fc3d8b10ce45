#include "engine/quant/code_packing.h"

#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace pot {
namespace {

// The definition, bit by bit.
PotCode NaiveCode(int bits, const std::vector<uint8_t>& bytes, int64_t k) {
  int code = 0;
  for (int b = 0; b < bits; ++b) {
    const int64_t i = k * bits + b;
    code |= ((bytes[i / 8] >> (i % 8)) & 1) << b;
  }
  return static_cast<PotCode>(code);
}

TEST(CodePackingTest, MatchesTheBitByBitDefinition) {
  std::mt19937 random(7);
  for (int bits = 2; bits <= 6; ++bits) {
    for (int64_t count = 0; count <= 67; ++count) {
      std::vector<PotCode> codes(count);
      for (PotCode& code : codes) code = random() % (1u << bits);
      const int64_t size = (count * bits + 7) / 8;
      // One guard byte on each side of what may be written.
      std::vector<uint8_t> bytes(size + 2, 0xa5);
      PackCodes(bits, codes.data(), count, bytes.data() + 1);
      ASSERT_EQ(bytes.front(), 0xa5);
      ASSERT_EQ(bytes.back(), 0xa5);
      const std::vector<uint8_t> stream(bytes.begin() + 1, bytes.end() - 1);
      for (int64_t k = 0; k < count; ++k) {
        ASSERT_EQ(NaiveCode(bits, stream, k), codes[k])
            << bits << " bits, code " << k << " of " << count;
      }
      for (int64_t i = count * bits; i < size * 8; ++i) {
        ASSERT_EQ((stream[i / 8] >> (i % 8)) & 1, 0) << "padding bit " << i;
      }
      std::vector<PotCode> unpacked(count + 2, 0xa5);
      UnpackCodes(bits, stream.data(), count, unpacked.data() + 1);
      ASSERT_EQ(unpacked.front(), 0xa5);
      ASSERT_EQ(unpacked.back(), 0xa5);
      ASSERT_TRUE(std::equal(codes.begin(), codes.end(), unpacked.begin() + 1));
    }
  }
}

TEST(CodePackingTest, PutsTheFirstCodeIntoTheLowBits) {
  const std::vector<PotCode> codes = {0x1, 0xe, 0x3};
  std::vector<uint8_t> bytes(2);
  PackCodes(4, codes.data(), 3, bytes.data());
  EXPECT_EQ(bytes, (std::vector<uint8_t>{0xe1, 0x03}));
}

}  // namespace
}  // namespace pot
