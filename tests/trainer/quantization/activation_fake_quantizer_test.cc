// ActivationFakeQuantizer against QuantizeActivation, which the engine runs.
#include "trainer/quantization/activation_fake_quantizer.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/quant/activation.h"
#include "gtest/gtest.h"
#include "tests/trainer/quantization/fake_quantizer_testing.h"

namespace pot {
namespace {

constexpr int64_t kTokens = 40, kWidth = 531;  // a tail for every vector length

ActivationFakeQuantizer Make(ActivationFakeQuantization mode,
                             float rate = 0.01f) {
  return *ActivationFakeQuantizer::Create(2, {mode, rate});
}

std::vector<float> Tokens() {
  std::vector<float> x = Gauss(kTokens * kWidth, 2.0f, 11);
  for (int64_t k = 0; k < kWidth; ++k) {
    x[k] = 0.0f;
    x[kWidth + k] *= 1e-39f;     // no step: all become 0
    x[2 * kWidth + k] *= 1e37f;  // near the largest float
    x[3 * kWidth + k] = std::fabs(x[3 * kWidth + k]);
    x[4 * kWidth + k] = -std::fabs(x[4 * kWidth + k]);
    x[5 * kWidth + k] = static_cast<float>(k % 255) - 127.0f;  // exact codes
    x[6 * kWidth + k] = 0.5f * static_cast<float>(k % 509) - 127.0f;  // ties
    x[7 * kWidth + k] = -0.0f;
  }
  return x;
}

TEST(ActivationFakeQuantizerTest, PerTokenIsTheEnginesBitForBit) {
  const std::vector<float> x = Tokens();
  for (const auto& [fake, mode] :
       {std::pair(ActivationFakeQuantization::kAffine, ActivationMode::kAffine),
        std::pair(ActivationFakeQuantization::kSymmetric,
                  ActivationMode::kSymmetric)}) {
    std::vector<float> expected(x.size());
    std::vector<int8_t> a(kWidth);
    for (int64_t t = 0; t < kTokens; ++t) {
      const ActivationScale scale =
          QuantizeActivation(x.data() + t * kWidth, kWidth, mode, a.data());
      for (int64_t k = 0; k < kWidth; ++k) {
        expected[t * kWidth + k] =
            scale.scale * static_cast<float>(a[k] - scale.zero_point);
      }
    }
    std::vector<float> actual = x;
    ActivationFakeQuantizer quantizer = Make(fake);
    quantizer.Forward(1, true, actual.data(), kTokens, kWidth, nullptr);
    ExpectSameBits(actual, expected);
    // Every x is in its token's range.
    std::vector<float> grad = x;
    quantizer.Backward(nullptr, grad.data(), grad.size());
    ExpectSameBits(grad, x);
  }
  std::vector<float> same = x;
  Make(ActivationFakeQuantization::kFloat)
      .Forward(0, true, same.data(), kTokens, kWidth, nullptr);
  ExpectSameBits(same, x);
}

TEST(ActivationFakeQuantizerTest, ObserversFollowAndClip) {
  ActivationFakeQuantizer quantizer =
      Make(ActivationFakeQuantization::kObserved, 0.25f);
  ASSERT_TRUE(quantizer.needs_mask());
  std::vector<float> x = Gauss(kTokens * kWidth, 1.0f, 12);
  std::vector<uint8_t> inside(x.size(), 7);
  // Nothing observed yet: left alone.
  std::vector<float> y = x;
  quantizer.Forward(0, false, y.data(), kTokens, kWidth, inside.data());
  ExpectSameBits(y, x);
  EXPECT_EQ(std::count(inside.begin(), inside.end(), 1), y.size());

  quantizer.Forward(0, true, y.data(), kTokens, kWidth, inside.data());
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  EXPECT_EQ(quantizer.Range(0), std::pair(*low, *high));
  EXPECT_EQ(quantizer.Range(1), std::pair(0.0f, 0.0f));
  EXPECT_EQ(std::count(inside.begin(), inside.end(), 1), y.size());

  // Three times as wide: the range goes a quarter of the way.
  std::vector<float> wide = x;
  for (float& value : wide) value *= 3.0f;
  const float range_low = *low + 0.25f * (3.0f * *low - *low);
  const float range_high = *high + 0.25f * (3.0f * *high - *high);
  y = wide;
  quantizer.Forward(0, true, y.data(), kTokens, kWidth, inside.data());
  EXPECT_EQ(quantizer.Range(0), std::pair(range_low, range_high));
  // Half a step within the range, and the zero point's rounding at its ends.
  const float step = (range_high - range_low) / 254.0f;
  std::vector<float> grad(x.size(), 2.0f);
  quantizer.Backward(inside.data(), grad.data(), grad.size());
  int clipped = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const bool in = wide[i] >= range_low && wide[i] <= range_high;
    EXPECT_EQ(inside[i], in ? 1 : 0);
    EXPECT_EQ(grad[i], in ? 2.0f : 0.0f);
    EXPECT_NEAR(y[i], std::clamp(wide[i], range_low, range_high),
                1.001f * step);
    clipped += in ? 0 : 1;
  }
  EXPECT_GT(clipped, 0);

  // Evaluation changes no range.
  quantizer.Forward(0, false, x.data(), kTokens, kWidth, nullptr);
  EXPECT_EQ(quantizer.Range(0), std::pair(range_low, range_high));
}

TEST(ActivationFakeQuantizerTest, StateRoundTrip) {
  ActivationFakeQuantizer quantizer =
      Make(ActivationFakeQuantization::kObserved);
  std::vector<float> x = Gauss(kTokens * kWidth, 1.0f, 13);
  quantizer.Forward(1, true, x.data(), kTokens, kWidth, nullptr);
  StateTensors state;
  quantizer.AppendState("a.", &state);
  StoredState stored(state);
  ActivationFakeQuantizer restored =
      Make(ActivationFakeQuantization::kObserved);
  ASSERT_TRUE(restored.Restore("a.", stored.tensors()).ok());
  EXPECT_EQ(restored.Range(0), quantizer.Range(0));
  EXPECT_EQ(restored.Range(1), quantizer.Range(1));
  std::vector<float> y = x, z = x;
  quantizer.Forward(1, true, y.data(), kTokens, kWidth, nullptr);
  restored.Forward(1, true, z.data(), kTokens, kWidth, nullptr);
  ExpectSameBits(y, z);

  const std::vector<float> bad = {0.5f, 1.0f, -1.0f, 1.0f};  // 0 is outside
  stored.tensors().at("a.ranges").bytes = absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(bad.data()), bad.size() * 4);
  EXPECT_EQ(restored.Restore("a.", stored.tensors()).code(),
            absl::StatusCode::kInvalidArgument);
  stored.tensors().erase("a.ranges");
  EXPECT_EQ(restored.Restore("a.", stored.tensors()).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(restored.Range(1), quantizer.Range(1));
}

TEST(ActivationFakeQuantizerTest, BadOptionsAreRefused) {
  for (const float rate : {0.0f, 1.5f, std::nanf("")}) {
    EXPECT_FALSE(ActivationFakeQuantizer::Create(
                     1, {ActivationFakeQuantization::kObserved, rate})
                     .ok());
  }
  EXPECT_FALSE(ActivationFakeQuantizer::Create(0, {}).ok());
}

}  // namespace
}  // namespace pot
