// Attention over a block of cached positions: the sums of dot and axpy, term by
// term, whatever the head size, the rows and the type of the cache.
#include <cstdint>
#include <vector>

#include "engine/base/half.h"
#include "engine/kernels/kernel_table.h"
#include "gtest/gtest.h"
#include "tests/engine/kernels/kernel_test_util.h"

namespace pot {
namespace {

constexpr int64_t kBlock = kAttentionBlock;
// Head sizes below, at and beside whole vectors; 64 has a path of its own.
constexpr int64_t kHeadSizes[] = {1, 5, 16, 17, 32, 64, 80, 100, 128};

class AttentionOpsTest : public KernelTableTest {
 protected:
  // Scores of `rows` queries, by either type of cache; keys are (d, block).
  std::vector<float> Scores(const std::vector<float>& queries, int64_t stride,
                            int64_t rows, const std::vector<float>& keys,
                            int64_t d, float root, bool half) const {
    constexpr int64_t kStride = kBlock + 3;
    std::vector<float> scores(rows * kStride, -1.0f);
    if (half) {
      const std::vector<uint16_t> halves = ToHalf(keys);
      table().score_keys_f16(queries.data(), stride, rows, halves.data(), d,
                             root, halves.data(), scores.data(), kStride);
    } else {
      table().score_keys_f32(queries.data(), stride, rows, keys.data(), d, root,
                             nullptr, scores.data(), kStride);
    }
    return scores;
  }

  std::vector<uint16_t> ToHalf(const std::vector<float>& x) const {
    std::vector<uint16_t> halves(x.size());
    table().float_to_half(x.data(), static_cast<int64_t>(x.size()),
                          halves.data());
    return halves;
  }
};
INSTANTIATE_TEST_SUITE_P(Tables, AttentionOpsTest, EveryTable(), TableName);

// Values that fp16 holds exactly, so that both caches must give the same.
std::vector<float> HalfFloats(int64_t count, uint32_t seed) {
  std::vector<float> x = RandomFloats(count, -2.0f, 2.0f, seed);
  for (float& value : x) value = HalfBitsToFloat(FloatToHalfBits(value));
  return x;
}

TEST_P(AttentionOpsTest, ScoresAreDotProductsInTheOrderOfDot) {
  for (const int64_t d : kHeadSizes) {
    const int64_t stride = 3 * d + 1;
    const std::vector<float> keys = HalfFloats(d * kBlock, 1);
    const float root = 1.0f + static_cast<float>(d) / 7.0f;
    for (const int64_t rows : {1, 2, 3, 4, 5, 9, 16}) {
      const std::vector<float> queries =
          RandomFloats(rows * stride, -1.0f, 1.0f, 2);
      for (const bool half : {false, true}) {
        const std::vector<float> scores =
            Scores(queries, stride, rows, keys, d, root, half);
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t t = 0; t < kBlock; ++t) {
            std::vector<float> key(d);
            for (int64_t i = 0; i < d; ++i) key[i] = keys[i * kBlock + t];
            const float dot =
                reference().dot(queries.data() + r * stride, key.data(), d);
            ASSERT_EQ(scores[r * (kBlock + 3) + t], dot / root)
                << "d " << d << ", row " << r << " of " << rows << ", position "
                << t;
          }
          // Nothing between the rows.
          ASSERT_EQ(scores[r * (kBlock + 3) + kBlock], -1.0f);
        }
      }
    }
  }
}

TEST_P(AttentionOpsTest, ValuesAreMixedOneAfterTheOther) {
  for (const int64_t d : kHeadSizes) {
    const std::vector<float> values = HalfFloats(kBlock * d, 3);
    const std::vector<uint16_t> halves = ToHalf(values);
    const int64_t stride = d + 3;
    for (const int64_t rows : {1, 2, 3, 4, 5, 9, 16}) {
      constexpr int64_t kWeightStride = kBlock + 1;
      const std::vector<float> weights =
          RandomFloats(rows * kWeightStride, 0.0f, 1.0f, 4);
      const std::vector<float> before =
          RandomFloats(rows * stride, -1.0f, 1.0f, 5);
      for (const int64_t count : {1, 2, 7, 15, 16}) {
        std::vector<float> expected = before, f16 = before, f32 = before;
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t t = 0; t < count; ++t) {
            reference().axpy(weights[r * kWeightStride + t],
                             values.data() + t * d, d,
                             expected.data() + r * stride);
          }
        }
        table().mix_values_f16(weights.data(), kWeightStride, rows,
                               halves.data(), d, count, halves.data(),
                               f16.data(), stride);
        table().mix_values_f32(weights.data(), kWeightStride, rows,
                               values.data(), d, count, nullptr, f32.data(),
                               stride);
        EXPECT_EQ(BitsOf(f16), BitsOf(expected)) << d << " " << rows;
        EXPECT_EQ(BitsOf(f32), BitsOf(expected)) << d << " " << rows;
      }
    }
  }
}

// Positions beyond the sequence may hold anything: they spoil no other.
TEST_P(AttentionOpsTest, LanesAreIndependent) {
  constexpr int64_t kD = 64;
  std::vector<float> keys = HalfFloats(kD * kBlock, 6);
  const std::vector<float> query = RandomFloats(kD, -1.0f, 1.0f, 7);
  const std::vector<float> clean = Scores(query, kD, 1, keys, kD, 8.0f, true);
  for (int64_t i = 0; i < kD; ++i) {
    for (int64_t t = 5; t < kBlock; ++t) keys[i * kBlock + t] = NAN;
  }
  const std::vector<float> scores = Scores(query, kD, 1, keys, kD, 8.0f, true);
  EXPECT_EQ(BitsOf({scores.begin(), scores.begin() + 5}),
            BitsOf({clean.begin(), clean.begin() + 5}));
}

}  // namespace
}  // namespace pot
