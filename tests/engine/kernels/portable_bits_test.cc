// The same bits from every table on every architecture: digests of what the
// float operations and quantized layers compute from fixed pseudo-random
// inputs, against constants. The scalar table made these (x86-64, GCC 12); a
// failure prints what was computed instead. tests/cross/run holds AArch64 to
// the same constants.
//
// NaNs are left out: the sign of a fresh one is negative on x86 and positive on
// AArch64. Every other value, infinities and subnormal ones included, has the
// same bits.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "engine/base/sha256.h"
#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/float_math.h"
#include "engine/kernels/kernel_table.h"
#include "engine/kernels/linear.h"
#include "engine/quant/activation.h"
#include "gtest/gtest.h"
#include "tests/engine/kernels/kernel_test_util.h"

namespace pot {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Whole vectors, tails, and lengths below one vector.
constexpr int64_t kCounts[] = {1, 7, 15, 16, 17, 31, 64, 100, 768, 1025};

// The first 64 bits of the SHA-256 of all values added, little-endian.
class Digest {
 public:
  template <typename T>
  void Add(const T* values, size_t count) {
    static_assert(std::endian::native == std::endian::little);
    for (size_t i = 0; i < count; ++i) {
      if constexpr (std::is_floating_point_v<T>) {
        ASSERT_FALSE(std::isnan(values[i])) << "at " << i;
      }
    }
    sha256_.Update(
        {reinterpret_cast<const uint8_t*>(values), count * sizeof(T)});
  }
  template <typename T>
  void Add(const std::vector<T>& values) {
    Add(values.data(), values.size());
  }
  template <typename T>
  void AddOne(T value) {
    Add(&value, 1);
  }
  std::string Hex() { return sha256_.HexDigest().substr(0, 16); }

 private:
  Sha256 sha256_;
};

// Of both signs, with magnitudes spread evenly over the powers of two from
// 2^low to 2^high; low >= -149, high <= 127.
std::vector<float> SpreadFloats(size_t count, int low, int high,
                                uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (float& value : values) {
    const float mantissa =
        static_cast<float>((random() >> 8) | 0x800000) * 0x1p-24f;  // [0.5, 1)
    const int exponent =
        low + 1 +
        static_cast<int>(random() % static_cast<uint32_t>(high - low));
    value = std::ldexp(random() % 2 == 0 ? mantissa : -mantissa, exponent);
  }
  return values;
}

class PortableBitsTest : public KernelTableTest {};
INSTANTIATE_TEST_SUITE_P(Tables, PortableBitsTest, EveryTable(), TableName);

TEST_P(PortableBitsTest, Dot) {
  Digest digest;
  for (const int64_t count : kCounts) {
    for (const int high : {1, 30}) {
      const std::vector<float> x = SpreadFloats(count, -80, high, 10 + count);
      const std::vector<float> y = SpreadFloats(count, -80, high, 20 + count);
      digest.AddOne(table().dot(x.data(), y.data(), count));
    }
  }
  EXPECT_EQ(digest.Hex(), "ee52d50040e5c717");
}

TEST_P(PortableBitsTest, Axpy) {
  Digest digest;
  for (const int64_t count : kCounts) {
    const std::vector<float> x = SpreadFloats(count, -149, 10, 30 + count);
    std::vector<float> y = SpreadFloats(count, -149, 10, 40 + count);
    table().axpy(0.7f, x.data(), count, y.data());
    digest.Add(y);
  }
  EXPECT_EQ(digest.Hex(), "8a51fd20774a6cfe");
}

TEST_P(PortableBitsTest, LayerNorm) {
  Digest digest;
  for (const int64_t count : kCounts) {
    const std::vector<float> x = SpreadFloats(count, -20, 6, 50 + count);
    const std::vector<float> gain = RandomFloats(count, -2.0f, 2.0f, 60);
    const std::vector<float> bias = RandomFloats(count, -1.0f, 1.0f, 70);
    std::vector<float> y(count);
    table().layer_norm(x.data(), gain.data(), bias.data(), 1e-5f, count,
                       y.data());
    digest.Add(y);
  }
  EXPECT_EQ(digest.Hex(), "dc50bb83fcb7fb2e");
}

TEST_P(PortableBitsTest, GeluTanh) {
  Digest digest;
  for (const int64_t count : kCounts) {
    std::vector<float> x = SpreadFloats(count, -149, 12, 80 + count);
    table().gelu_tanh(x.data(), count);
    digest.Add(x);
    x = RandomFloats(count, -11.0f, 6.0f, 90 + count);
    table().gelu_tanh(x.data(), count);
    digest.Add(x);
  }
  EXPECT_EQ(digest.Hex(), "500483a17692222a");
}

TEST_P(PortableBitsTest, GeluErf) {
  Digest digest;
  for (const int64_t count : kCounts) {
    std::vector<float> x = SpreadFloats(count, -149, 12, 100 + count);
    table().gelu_erf(x.data(), count);
    digest.Add(x);
    x = RandomFloats(count, -14.0f, 6.0f, 110 + count);
    table().gelu_erf(x.data(), count);
    digest.Add(x);
  }
  EXPECT_EQ(digest.Hex(), "39f12ce56cad1218");
}

TEST_P(PortableBitsTest, Softmax) {
  Digest digest;
  for (const int64_t count : kCounts) {
    // The widest spread makes subnormal numbers and zeros.
    for (const float spread : {1.0f, 20.0f, 110.0f}) {
      std::vector<float> x = RandomFloats(count, -spread, spread, 120 + count);
      for (size_t i = 1; i < x.size(); i += 5) x[i] = -kInfinity;
      table().softmax(x.data(), count);
      digest.Add(x);
    }
  }
  EXPECT_EQ(digest.Hex(), "cc69e6062dfeaeab");
}

TEST_P(PortableBitsTest, Sampling) {
  Digest digest;
  for (const int64_t count : kCounts) {
    const std::vector<float> logits =
        RandomFloats(count, -40.0f, 5.0f, 210 + count);
    digest.AddOne(table().arg_max(logits.data(), count));
    for (const double temperature : {0.3, 1.0, 1.7}) {
      std::vector<double> values(logits.begin(), logits.end());
      std::vector<uint64_t> weights(count);
      table().sampling_weights(values.data(), count, 5.0, temperature,
                               weights.data());
      digest.Add(values);
      digest.Add(weights);
    }
  }
  EXPECT_EQ(digest.Hex(), "58023f24acd605f3");
}

TEST_P(PortableBitsTest, AddScaled) {
  Digest digest;
  std::mt19937 random(130);
  AlignedBuffer<int32_t> acc(64), level_sums(64);
  AlignedBuffer<float> scales(64);
  for (const int32_t zero_point : {0, 1, -127, 127}) {
    for (int n = 0; n < 64; ++n) {
      // What layers of up to 2^16 inputs reach without a sum beyond int32.
      level_sums[n] = static_cast<int32_t>(random() % (1 << 24)) - (1 << 23);
      acc[n] = static_cast<int32_t>(random() % (1 << 30)) - (1 << 29);
    }
    const std::vector<float> s = SpreadFloats(64, -126, 20, 131);
    std::copy(s.begin(), s.end(), scales.data());
    std::vector<float> y = SpreadFloats(64, -126, 20, 132);
    table().add_scaled(acc.data(), scales.data(), level_sums.data(), zero_point,
                       y.data());
    digest.Add(y);
  }
  EXPECT_EQ(digest.Hex(), "b81e167c24976302");
}

TEST_P(PortableBitsTest, FloatToHalf) {
  Digest digest;
  for (const int64_t count : kCounts) {
    std::vector<float> x = SpreadFloats(count, -30, 18, 140 + count);
    x[0] = kInfinity;
    std::vector<uint16_t> half(count);
    table().float_to_half(x.data(), count, half.data());
    digest.Add(half);
  }
  EXPECT_EQ(digest.Hex(), "1d45472c5f45344e");
}

// Every format, granularity and mode; one row to more than kMaxTileRows, since
// few and many take different kernels.
TEST_P(PortableBitsTest, PotLinear) {
  Digest digest;
  uint32_t seed = 150;
  for (const PotFormat& format : AllPotFormats()) {
    for (const Granularity& granularity : AllGranularities()) {
      for (const ActivationMode mode :
           {ActivationMode::kAffine, ActivationMode::kSymmetric}) {
        constexpr int64_t kOutputs = 65, kInputs = 140;
        const auto linear = MakePotLinear(
            RandomMatrix(format, kOutputs, kInputs, granularity, seed),
            RandomFloats(kOutputs, -1.0f, 1.0f, seed + 1), mode, &table());
        ASSERT_TRUE(linear.ok()) << linear.status();
        for (const int64_t rows : {1, 3, 19, 130}) {
          const std::vector<float> x =
              SpreadFloats(rows * kInputs, -12, 4, seed + 2);
          std::vector<float> y(rows * kOutputs);
          ASSERT_TRUE(
              (*linear)->Forward(x.data(), rows, y.data(), nullptr).ok());
          digest.Add(y);
        }
        seed += 3;
      }
    }
  }
  EXPECT_EQ(digest.Hex(), "63c31acdeb247631");
}

TEST_P(PortableBitsTest, Quantize) {
  Digest digest;
  for (const ActivationMode mode :
       {ActivationMode::kAffine, ActivationMode::kSymmetric}) {
    for (const int64_t count : kCounts) {
      for (const int high : {-110, 0, 100}) {
        const std::vector<float> x =
            SpreadFloats(count, high - 12, high, 160 + count);
        std::vector<int8_t> a(count);
        const ActivationScale scale =
            table().quantize(x.data(), count, mode, a.data());
        digest.AddOne(scale.scale);
        digest.AddOne(scale.zero_point);
        digest.Add(a);
      }
    }
  }
  EXPECT_EQ(digest.Hex(), "ed35daa4dcc4942a");
}

// One block of attention, over both types of cache.
TEST_P(PortableBitsTest, Attention) {
  Digest digest;
  for (const int64_t d : {1, 17, 64, 80}) {
    for (const int64_t rows : {1, 5}) {
      const int64_t block = kAttentionBlock;
      const std::vector<float> queries = SpreadFloats(rows * d, -30, 3, 180);
      const std::vector<float> cached = SpreadFloats(d * block, -30, 3, 190);
      std::vector<uint16_t> halves(cached.size());
      table().float_to_half(cached.data(), d * block, halves.data());

      std::vector<float> scores(rows * block);
      table().score_keys_f32(queries.data(), d, rows, cached.data(), d, 8.1f,
                             nullptr, scores.data(), block);
      digest.Add(scores);
      table().score_keys_f16(queries.data(), d, rows, halves.data(), d, 8.1f,
                             nullptr, scores.data(), block);
      digest.Add(scores);

      std::vector<float> sums = SpreadFloats(rows * d, -30, 3, 200);
      table().mix_values_f32(scores.data(), block, rows, cached.data(), d,
                             block - 3, nullptr, sums.data(), d);
      digest.Add(sums);
      table().mix_values_f16(scores.data(), block, rows, halves.data(), d,
                             block, nullptr, sums.data(), d);
      digest.Add(sums);
    }
  }
  EXPECT_EQ(digest.Hex(), "d8177caba2e74bf3");
}

TEST(PortableBits, ExpAndLog) {
  Digest digest;
  for (float x = -105.0f; x < 90.0f; x += 0.0137f) digest.AddOne(ExpF(x));
  for (double x = -750.0; x < 711.0; x += 0.1037) digest.AddOne(Exp(x));
  for (double x = 1e-322; x < 1e308; x *= 1.237) digest.AddOne(Log(x));
  for (double x = 0.5; x < 2.0; x += 0.000731) digest.AddOne(Log(x));
  EXPECT_EQ(digest.Hex(), "42baf15d7fc6a2af");
}

TEST(PortableBits, LogSumExp) {
  Digest digest;
  for (const int64_t count : kCounts) {
    for (const float spread : {1.0f, 20.0f, 1e4f}) {
      const std::vector<float> x =
          RandomFloats(count, -spread, spread, 170 + count);
      digest.AddOne(LogSumExp(x.data(), count));
    }
  }
  EXPECT_EQ(digest.Hex(), "251636d385c81a7b");
}

}  // namespace
}  // namespace pot
