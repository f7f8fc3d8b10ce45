#include "engine/base/xxh64.h"

#include <vector>

#include "gtest/gtest.h"

namespace pot {
namespace {

// The first `size` bytes of 0, 1, .. 255, 0, ..
std::vector<uint8_t> Counting(size_t size) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i);
  return bytes;
}

// By Debian's libxxhash0 0.8.1:
// python3 -c 'import ctypes; l = ctypes.CDLL("libxxhash.so.0")
// l.XXH64.restype = ctypes.c_uint64; b = bytes(range(256)) * 5
// for n in (0, 1, 3, 4, 8, 15, 31, 32, 33, 63, 64, 1000):
//     print(n, hex(l.XXH64(b, ctypes.c_size_t(n), ctypes.c_uint64(0))))'
TEST(Xxh64Test, AgreesWithTheReference) {
  const struct {
    size_t size;
    uint64_t hash;
  } kGoldens[] = {
      {0, 0xef46db3751d8e999},  {1, 0xe934a84adb052768},
      {3, 0xe5c7bb4533bc65dd},  {4, 0xffced8604453cc1e},
      {8, 0x884a173614b81b8d},  {15, 0xa948f5f0f6abac2d},
      {31, 0xc346d2b59b4d8ee1}, {32, 0xcbf59c5116ff32b4},
      {33, 0x0c535d1acafb8ead}, {63, 0xe26aa9e2a95f8e4f},
      {64, 0xf7c67301db6713f0}, {1000, 0x6ef436b00eba4078},
  };
  for (const auto& golden : kGoldens) {
    EXPECT_EQ(Xxh64(absl::MakeConstSpan(Counting(golden.size))), golden.hash)
        << golden.size;
  }
}

// The bytes of 1, -0 and 1.5, lowest first.
TEST(Xxh64Test, FloatsAreTheirBits) {
  const std::vector<float> floats = {1.0f, -0.0f, 1.5f};
  const std::vector<uint8_t> bytes = {0, 0,    0x80, 0x3f, 0,    0,
                                      0, 0x80, 0,    0,    0xc0, 0x3f};
  EXPECT_EQ(Xxh64(absl::MakeConstSpan(floats)),
            Xxh64(absl::MakeConstSpan(bytes)));
  EXPECT_NE(Xxh64(absl::MakeConstSpan(floats)),
            Xxh64(absl::MakeConstSpan(std::vector<float>{1.0f, 0.0f, 1.5f})));
}

}  // namespace
}  // namespace pot
