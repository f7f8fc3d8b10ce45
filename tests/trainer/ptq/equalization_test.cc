// Equalization changes no logit, and rounding then loses less.
#include "trainer/ptq/equalization.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "engine/gpt2/float_model.h"
#include "gtest/gtest.h"
#include "test_paths.h"
#include "trainer/gpt2/trunk.h"
#include "trainer/math/products.h"

namespace pot {
namespace {

constexpr char kBase[] = POT_SOURCE_DIR "/tests/testdata/tiny-bpe";
constexpr int64_t kContext = 16, kSequences = 4;

class EqualizationTest : public testing::TestWithParam<bool> {
 protected:
  EqualizationTest()
      : layout_(ReadGpt2Config(kBase).value()),
        parameters_(layout_.size()),
        text_(layout_.config().vocab_size) {
    EXPECT_TRUE(layout_.Read(kBase, absl::MakeSpan(parameters_)).ok());
    std::vector<int32_t> tokens(kContext * kSequences);
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = static_cast<int32_t>(i * 37 % layout_.config().vocab_size);
    }
    EXPECT_TRUE(text_.Append(tokens).ok());
    // Channels of unlike importance, by a factor that is no power of two, with
    // weights to match.
    const auto view = ViewParameters<float>(layout_, parameters_.data());
    for (const LayerParameters<float>& layer : view.layers) {
      for (int64_t k = 0; k < layout_.config().n_embd; ++k) {
        const auto factor =
            static_cast<float>(std::pow(2.9, static_cast<int>(k % 5) - 2));
        layer.ln1_gain[k] *= factor;
        layer.ln2_gain[k] *= factor;
        for (int64_t n = 0; n < 3 * layout_.config().n_embd; ++n) {
          layer.attn_w[n * layout_.config().n_embd + k] /= factor;
        }
        for (int64_t n = 0; n < layout_.config().n_inner; ++n) {
          layer.fc_w[n * layout_.config().n_embd + k] /= factor;
        }
      }
    }
  }

  // The head's inputs, with float activations.
  std::vector<float> Hidden() const {
    const auto products = *Products<float>::Create(Precision::kF32);
    Trunk<float> trunk(layout_.config(), TrunkOptions{}, products.get(),
                       nullptr);
    std::vector<int32_t> tokens(text_.size());
    text_.Copy(0, absl::MakeSpan(tokens));
    const auto hidden =
        trunk.Forward(ViewParameters<const float>(layout_, parameters_.data()),
                      {.sequences = kSequences,
                       .context = kContext,
                       .tokens = tokens.data()});
    return {hidden.begin(), hidden.end()};
  }

  const ParameterLayout layout_;
  std::vector<float> parameters_;
  TokenCorpus text_;
};

TEST_P(EqualizationTest, ChangesWeightsAndNotOneBitOfWhatComesOut) {
  const bool calibrated = GetParam();
  QuantizeModelOptions options;
  options.layers.format = *FindPotFormat("int4");
  options.embedding = options.layers;
  const std::vector<float> before = Hidden(), original = parameters_;
  const auto result =
      EqualizeModel(layout_, options, calibrated ? &text_ : nullptr, kContext,
                    absl::MakeSpan(parameters_), nullptr);
  ASSERT_TRUE(result.ok()) << result.status();

  const auto& config = layout_.config();
  ASSERT_EQ(result->products.size(), 3 * config.n_layer);
  double ratio = 0;
  for (const EqualizedProduct& product : result->products) {
    EXPECT_LE(product.error_ratio, 1.0) << product.name;
    EXPECT_EQ(product.channels == 0, product.error_ratio == 1) << product.name;
    if (product.name.ends_with("attn.c_attn.weight")) {
      EXPECT_GT(product.channels, config.n_embd / 4) << product.name;
    }
    ratio += product.error_ratio / static_cast<double>(3 * config.n_layer);
  }
  EXPECT_LT(ratio, 0.95);

  const std::vector<float> after = Hidden();
  ASSERT_EQ(before.size(), after.size());
  EXPECT_EQ(
      std::memcmp(before.data(), after.data(), before.size() * sizeof(float)),
      0);
  // Every weight is the old one times a power of two, and what is no matrix is
  // reported.
  for (size_t i = 0; i < layout_.tensors().size(); ++i) {
    const TensorSpec& tensor = layout_.tensors()[i];
    bool changed = false;
    for (int64_t j = 0; j < tensor.num_elements(); ++j) {
      const float a = original[layout_.offset(i) + j];
      const float b = parameters_[layout_.offset(i) + j];
      int exponent = 0;
      if (a != 0) {
        EXPECT_EQ(std::frexp(b / a, &exponent), 0.5f);
      }
      changed = changed || a != b;
    }
    if (tensor.quantized()) continue;
    const auto found = result->floats.find(tensor.name);
    EXPECT_TRUE(!changed || found != result->floats.end()) << tensor.name;
    if (found == result->floats.end()) continue;
    EXPECT_EQ(std::memcmp(found->second.data(),
                          parameters_.data() + layout_.offset(i),
                          tensor.num_elements() * sizeof(float)),
              0)
        << tensor.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Moments, EqualizationTest, testing::Bool(),
                         [](const auto& test) {
                           return test.param ? "Measured" : "Estimated";
                         });

TEST(EqualizationLimits, WhatWouldNotStayExactIsLeftAlone) {
  const ParameterLayout layout(ReadGpt2Config(kBase).value());
  std::vector<float> parameters(layout.size());
  ASSERT_TRUE(layout.Read(kBase, absl::MakeSpan(parameters)).ok());
  const auto view = ViewParameters<float>(layout, parameters.data());
  for (const LayerParameters<float>& layer : view.layers) {
    for (int64_t k = 0; k < layout.config().n_embd; ++k) {
      layer.ln1_gain[k] = k % 2 == 0 ? 16.0f : 1.0f;
      // A subnormal number with an odd mantissa cannot be halved.
      layer.ln1_bias[k] = k % 2 == 0 ? 0x1.8p-148f : 0.0f;
    }
  }
  QuantizeModelOptions options;
  options.layers.format = *FindPotFormat("int4");
  options.embedding = options.layers;
  const auto result = EqualizeModel(layout, options, nullptr, 0,
                                    absl::MakeSpan(parameters), nullptr);
  ASSERT_TRUE(result.ok()) << result.status();
  for (const EqualizedProduct& product : result->products) {
    if (product.name.ends_with("attn.c_attn.weight")) {
      EXPECT_EQ(product.channels, 0) << product.name;
    }
  }
}

}  // namespace
}  // namespace pot
