// The AMX algorithm on a model of the tile instructions (Intel SDM, volume 2,
// "tdpbsud" and its neighbours), so that it is tested on every CPU. On one with
// AMX pot_tile_test runs the instructions themselves.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/kernel_table.h"
#include "engine/kernels/packed_pot_matrix.h"
#include "engine/kernels/unpacked_levels.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

// Eight registers of up to 16 rows of 64 bytes. What the CPU would refuse (#UD)
// fails the test.
class TileModel {
 public:
  void Configure(const void* config) {
    const auto* bytes = static_cast<const uint8_t*>(config);
    ASSERT_EQ(bytes[0], 1);
    ASSERT_TRUE(std::all_of(bytes + 1, bytes + 16,
                            [](uint8_t byte) { return byte == 0; }));
    for (int t = 0; t < 8; ++t) {
      uint16_t row_bytes;
      std::memcpy(&row_bytes, bytes + 16 + 2 * t, 2);
      tiles_[t] = {bytes[48 + t], row_bytes, {}};
      ASSERT_LE(tiles_[t].rows, 16);
      ASSERT_LE(row_bytes, 64);
      ASSERT_EQ(tiles_[t].rows == 0, row_bytes == 0);
    }
    configured_ = true;
  }

  void Zero(int t) {
    ExpectUsable(t);
    tiles_[t].data = {};
  }

  void Load(int t, const void* base, int64_t stride) {
    ExpectUsable(t);
    tiles_[t].data = {};
    for (int r = 0; r < tiles_[t].rows; ++r) {
      std::memcpy(tiles_[t].data[r].data(),
                  static_cast<const uint8_t*>(base) + r * stride,
                  tiles_[t].row_bytes);
    }
  }

  void Store(int t, void* base, int64_t stride) {
    ExpectUsable(t);
    for (int r = 0; r < tiles_[t].rows; ++r) {
      std::memcpy(static_cast<uint8_t*>(base) + r * stride,
                  tiles_[t].data[r].data(), tiles_[t].row_bytes);
    }
  }

  void Dot(int c, int a, int b) {
    for (const int t : {c, a, b}) ExpectUsable(t);
    ASSERT_EQ(tiles_[a].rows, tiles_[c].rows);
    ASSERT_EQ(tiles_[b].row_bytes, tiles_[c].row_bytes);
    ASSERT_EQ(tiles_[a].row_bytes, 4 * tiles_[b].rows);
    for (int m = 0; m < tiles_[c].rows; ++m) {
      for (int n = 0; n < tiles_[c].row_bytes / 4; ++n) {
        int32_t sum;
        std::memcpy(&sum, &tiles_[c].data[m][4 * n], 4);
        for (int k = 0; k < tiles_[a].row_bytes; ++k) {
          sum += static_cast<int8_t>(tiles_[a].data[m][k]) *
                 int32_t{tiles_[b].data[k / 4][4 * n + k % 4]};
        }
        std::memcpy(&tiles_[c].data[m][4 * n], &sum, 4);
      }
    }
  }

  void Release() { configured_ = false; }
  bool configured() const { return configured_; }

 private:
  struct Tile {
    int rows = 0;
    int row_bytes = 0;
    std::array<std::array<uint8_t, 64>, 16> data = {};
  };

  void ExpectUsable(int t) const {
    EXPECT_TRUE(configured_);
    EXPECT_GT(tiles_[t].rows, 0) << "tile " << t;
  }

  std::array<Tile, 8> tiles_;
  bool configured_ = false;
};

TileModel tile_model;
std::vector<const uint8_t*> fetched;

int32_t BiasSum(const int8_t* a, int64_t count) {
  int32_t sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += 128 * a[i];
  return sum;
}

#define POT_TARGET
#define POT_TILE_CONFIGURE(config) tile_model.Configure(config)
#define POT_TILE_ZERO(t) tile_model.Zero(t)
#define POT_TILE_LOAD(t, base, stride) tile_model.Load(t, base, stride)
#define POT_TILE_STORE(t, base, stride) tile_model.Store(t, base, stride)
#define POT_TILE_DOT(c, a, b) tile_model.Dot(c, a, b)
#define POT_TILE_RELEASE() tile_model.Release()
#define POT_TILE_PREFETCH(address) \
  fetched.push_back(static_cast<const uint8_t*>(address))
#include "engine/kernels/pot_tile_amx.inc"

// Levels as unpacked_levels.h describes them, one at a time.
std::vector<uint8_t> Unpack(const std::vector<uint8_t>& codes,
                            const PotFormat& format, int64_t steps) {
  const bool split = IsSplit(format);
  const int64_t stride = UnpackedStride(format);
  std::vector<uint8_t> levels(steps * UnpackedStepBytes(format), 0xee);
  for (int64_t k = 0; k < 8 * steps; ++k) {
    for (int n = 0; n < 64; ++n) {
      const uint8_t byte = codes[k / 8 * 256 + 4 * n + k % 4];
      const int32_t level = format.levels[k % 8 < 4 ? byte & 15 : byte >> 4];
      uint8_t* const at = levels.data() + k / 4 * stride + 4 * n + k % 4;
      at[0] = static_cast<uint8_t>(split ? std::max(level, 0) : level + 128);
      if (split) at[kPlaneBytes] = static_cast<uint8_t>(std::max(-level, 0));
    }
  }
  return levels;
}

// Every line of the codes of whole tiles, 64 inputs, and no line twice.
void ExpectWholeTilesFetchedOnce(const uint8_t* codes, int64_t steps) {
  std::vector<const uint8_t*> expected;
  for (int64_t line = 0; line < 256 * (steps / 8 * 8); line += 64) {
    expected.push_back(codes + line);
  }
  EXPECT_THAT(fetched, testing::UnorderedElementsAreArray(expected));
}

TEST(PotTileAmxTest, EqualsReferenceForEveryShape) {
  const KernelTable& reference = *AllKernelTables()[0];
  std::mt19937 random(5);
  for (const char* name : {"pot4", "pot4-strict", "twohot4", "pot2"}) {
    const PotFormat& format = *FindPotFormat(name).value();
    // Inputs below, at and beside whole tiles of 64.
    for (const int64_t steps : {1, 4, 7, 8, 9, 16, 20}) {
      std::vector<uint8_t> codes(256 * steps);
      const unsigned count = format.num_codes();
      for (uint8_t& byte : codes) {
        byte = static_cast<uint8_t>(random() % count | (random() % count) << 4);
      }
      AlignedBuffer<uint8_t> aligned(codes.size());
      std::copy(codes.begin(), codes.end(), aligned.data());
      const std::vector<uint8_t> levels = Unpack(codes, format, steps);
      const int64_t stride = 8 * steps + 5;
      for (const int rows : {1, 8, 15, 16, 17, 31, 32, 33, 48, 50, 128}) {
        std::vector<int8_t> a(rows * stride);
        for (int8_t& x : a) x = static_cast<int8_t>(random() % 255) - 127;
        std::vector<int32_t> acc(64 * rows + 1, 0x5a5a5a5a);
        fetched.clear();
        AmxDot(levels.data(), format, a.data(), stride, rows, steps,
               aligned.data(), acc.data());
        ExpectWholeTilesFetchedOnce(aligned.data(), steps);
        EXPECT_EQ(acc.back(), 0x5a5a5a5a);
        acc.pop_back();
        EXPECT_FALSE(tile_model.configured()) << "not released";
        std::vector<int32_t> expected(64 * rows);
        for (int row = 0; row < rows; row += kMaxDotRows) {
          reference.pot_dot(aligned.data(), format, a.data() + row * stride,
                            stride, std::min(kMaxDotRows, rows - row), steps,
                            expected.data() + 64 * row);
        }
        ASSERT_EQ(acc, expected)
            << name << ", rows " << rows << ", steps " << steps;
      }
    }
  }
}

// The model's own arithmetic against the instruction's description: one signed
// times one unsigned byte at their extremes.
TEST(PotTileAmxTest, ModelMultipliesSignedByUnsigned) {
  const TileConfig config = MakeTileConfig(1, 0, 4);
  tile_model.Configure(&config);
  const int8_t a[4] = {-128, 127, -1, 0};
  uint8_t b[64] = {};
  b[0] = b[1] = b[2] = b[3] = 255;
  int32_t c[16];
  tile_model.Zero(0);
  tile_model.Load(4, a, 4);
  tile_model.Load(6, b, 64);
  tile_model.Dot(0, 4, 6);
  tile_model.Store(0, c, 64);
  EXPECT_EQ(c[0], (-128 + 127 - 1) * 255);
  EXPECT_EQ(c[1], 0);
  tile_model.Release();
}

}  // namespace
}  // namespace pot
