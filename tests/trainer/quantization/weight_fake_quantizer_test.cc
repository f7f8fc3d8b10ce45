// WeightFakeQuantizer against the quantizer of export. Gradients of scales are
// tested in scale_gradient_test.cc.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/gpt2/model_testing.h"
#include "tests/trainer/quantization/fake_quantizer_testing.h"
#include "trainer/quantization/weight_fake_quantizer.h"

namespace pot {
namespace {

using testing::HasSubstr;

struct Case {
  int64_t rows, cols;
  std::vector<float> w;
};

// 200 columns leave a short last group for every group size; the second matrix
// is longer than what one thread takes at a time.
std::vector<Case> Cases() {
  constexpr int64_t kCols = 200;
  Case edges{9, kCols, Gauss(9 * kCols, 0.02f, 1)};
  float* row[9];
  for (int i = 0; i < 9; ++i) row[i] = edges.w.data() + i * kCols;
  for (int64_t k = 0; k < kCols; ++k) {
    row[1][k] = 0.0f;
    row[2][k] *= 1e-37f;                    // subnormal, or nearly
    row[3][k] = std::ldexp(row[3][k], 80);  // as large as allowed
    row[4][k] = static_cast<float>(k % 130) * (k % 3 == 0 ? -0.5f : 0.5f);
    row[5][k] = -row[5][k] * row[5][k];      // the long arm is negative
    row[6][k] = k < 64 ? -0.0f : row[6][k];  // a group of zeros
    row[7][k] = 0.25f;
  }
  row[8][0] = 1.0f;  // an outlier
  Case smooth{90, 768, Gauss(90 * 768, 0.05f, 2)};
  return {edges, smooth};
}

// Calls with every format, granularity and mode that exist.
template <typename Function>
void ForEachQuantizer(Function function) {
  for (const PotFormat& format : AllPotFormats()) {
    for (const char* granularity : {"tensor", "row", "g32", "g64", "g128"}) {
      for (const auto mode : {QuantizeMode::kNearest, QuantizeMode::kPaper}) {
        if (mode == QuantizeMode::kPaper && format.paper_max_exponent < 0) {
          continue;
        }
        SCOPED_TRACE(absl::StrCat(format.name, " ", granularity, " ",
                                  QuantizeModeName(mode)));
        function(Options(format.name, granularity, mode));
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(WeightFakeQuantizerTest, ForwardIsWhatExportWritesBitForBit) {
  const std::vector<Case> cases = Cases();
  ForEachQuantizer([&](const FakeQuantizeOptions& options) {
    const absl::string_view format = options.quantize.format->name;
    for (const Case& c : cases) {
      // Searches take time: the long one in two formats only.
      const bool is_long = c.cols == 768;
      if (is_long && format != "pot4" && format != "twohot4") continue;
      const auto expected = QuantizePot(c.w, c.rows, c.cols, options.quantize);
      ASSERT_TRUE(expected.ok()) << expected.status();
      Fake fake(c.rows, c.cols, options);
      const std::vector<float> effective = fake.Forward(c.w);
      ExpectSameBits(effective, Dequantize(*expected));

      // After a step of the optimizer, with scales of before (kNearest).
      std::vector<float> moved = c.w;
      for (size_t i = 0; i < moved.size(); i += 3) moved[i] *= 1.01f;
      const std::vector<float> after = fake.Forward(moved);
      const auto exported = fake.quantizer.Export(moved.data());
      ASSERT_TRUE(exported.ok()) << exported.status();
      ExpectSameBits(after, Dequantize(*exported));
      // Frozen codes are those, whatever the weights.
      fake.quantizer.FreezeCodes(moved.data());
      ExpectSameBits(after, fake.Forward(c.w));
      const auto frozen = fake.quantizer.Export(c.w.data());
      ASSERT_TRUE(frozen.ok()) << frozen.status();
      ExpectSameBits(after, Dequantize(*frozen));
    }
  });
}

// Weights on and beside every threshold, under a scale of 1 or -1.
TEST(WeightFakeQuantizerTest, TiesRoundAsInExport) {
  ForEachQuantizer([&](const FakeQuantizeOptions& any) {
    const PotFormat& format = *any.quantize.format;
    std::vector<float> w;
    for (int a = 0; a < format.num_codes(); ++a) {
      const float level = static_cast<float>(format.levels[a]);
      for (const float x : {level, level * 1.5f, level - 0.5f, level + 0.5f,
                            std::round(level * std::sqrt(2.0f))}) {
        for (const float toward : {-INFINITY, INFINITY}) {
          w.push_back(std::nextafter(x, toward));
        }
        w.push_back(x);
      }
      for (int b = 0; b < a; ++b) {
        w.push_back(0.5f * (level + static_cast<float>(format.levels[b])));
      }
    }
    FakeQuantizeOptions options = any;
    options.quantize.granularity = *Granularity::Parse("row");
    options.learned_scales = true;
    Fake fake(1, w.size(), options);
    fake.Forward(w);
    for (const float scale : {1.0f, -1.0f}) {
      if (scale < 0.0f && any.quantize.mode == QuantizeMode::kPaper) continue;
      StoredState stored(fake.State());
      const float zero = 0.0f;  // log |scale|
      stored.tensors().at("m.scales").bytes = {
          reinterpret_cast<const uint8_t*>(&scale), sizeof(scale)};
      stored.tensors().at("m.log_scales").bytes = {
          reinterpret_cast<const uint8_t*>(&zero), sizeof(zero)};
      ASSERT_TRUE(fake.quantizer.Restore("m.", stored.tensors()).ok());
      const std::vector<float> effective = fake.Forward(w);
      ASSERT_EQ(fake.quantizer.scales()[0], scale);
      ExpectSameBits(effective, Dequantize(*fake.quantizer.Export(w.data())));
    }
  });
}

TEST(WeightFakeQuantizerTest, LearnedScalesStartAtThoseOfTheQuantizer) {
  const Case c = Cases()[0];
  for (const char* granularity : {"tensor", "row", "g64"}) {
    Fake fake(c.rows, c.cols, Learned("pot4", granularity));
    const std::vector<float> effective = fake.Forward(c.w);
    const auto ptq =
        QuantizePot(c.w, c.rows, c.cols, fake.quantizer.options().quantize);
    ASSERT_EQ(fake.quantizer.scales().size(), ptq->scales().size());
    for (size_t i = 0; i < ptq->scales().size(); ++i) {
      const float s = ptq->scales()[i];
      if (std::fabs(s) < 1.7e-38f) continue;  // below e^-87, which is the least
      // log |s| < 88 has an ulp of 2^-17, so that its rounding and exp's 1.5
      // ulp leave a relative error below 2^-18 + 2^-22.
      EXPECT_NEAR(fake.quantizer.scales()[i], s, std::fabs(s) * 0x1.2p-18f);
    }
    // And when they move.
    for (float& log_scale : fake.log_scales) log_scale += 0.1f;
    const std::vector<float> after = fake.Forward(c.w);
    ExpectSameBits(after, Dequantize(*fake.quantizer.Export(c.w.data())));
  }
}

TEST(WeightFakeQuantizerTest, ScalesAreSearchedAtTheInterval) {
  std::vector<float> w = Gauss(4 * 128, 0.1f, 3);
  FakeQuantizeOptions options = Options("twohot4", "g32");
  options.search_interval = 3;
  Fake fake(4, 128, options);
  const auto is_fresh = [&] {
    for (float& x : w) x *= 1.3f;
    fake.Forward(w);
    const auto ptq = QuantizePot(w, 4, 128, options.quantize);
    return std::equal(ptq->scales().begin(), ptq->scales().end(),
                      fake.quantizer.scales().begin());
  };
  std::vector<bool> fresh;
  for (int i = 0; i < 8; ++i) {
    if (i == 5) fake.quantizer.RequestSearch();
    fresh.push_back(is_fresh());
  }
  EXPECT_THAT(fresh, testing::ElementsAre(true, false, false, true, false, true,
                                          false, false));
}

TEST(WeightFakeQuantizerTest, GroupsOfZerosGetAScaleOnceTheyHaveWeights) {
  for (const bool learned : {false, true}) {
    FakeQuantizeOptions options = Options("pot4", "g32");
    options.learned_scales = learned;
    Fake fake(2, 64, options);
    std::vector<float> w(2 * 64, 0.0f);
    ExpectSameBits(fake.Forward(w), w);
    // The gradient must reach weights that have no scale yet.
    const std::vector<float> grad(w.size(), 0.5f);
    ExpectSameBits(fake.Backward(w, grad), grad);
    EXPECT_EQ(fake.gradients, std::vector<float>(4, 0.0f));
    w[40] = 3.0f;
    const std::vector<float> effective = fake.Forward(w);
    // The search's steps are 7 % apart, and so at worst is a lone weight.
    EXPECT_NEAR(effective[40], 3.0f, 0.035f * 3.0f);
    EXPECT_EQ(std::count(effective.begin(), effective.end(), 0.0f), 127);
  }
}

TEST(WeightFakeQuantizerTest, StraightThroughMasksBeyondTheTopOfEachSide) {
  const std::vector<float> w = Gauss(4 * 96, 1.0f, 4);
  const std::vector<float> grad = Gauss(4 * 96, 1.0f, 5);
  for (const PotFormat& format : AllPotFormats()) {
    SCOPED_TRACE(format.name);
    FakeQuantizeOptions options = Options(format.name, "g64");
    const auto [low, high] = std::minmax_element(
        format.levels.begin(), format.levels.begin() + format.num_codes());
    Fake clipped(4, 96, options);
    clipped.Forward(w);
    const std::vector<float> masked = clipped.Backward(w, grad);
    int beyond = 0;
    for (int i = 0; i < 4 * 96; ++i) {
      const int group = i / 96 * 2 + i % 96 / 64;
      const float x = w[i] / clipped.quantizer.scales()[group];
      const bool inside =
          x >= static_cast<float>(*low) && x <= static_cast<float>(*high);
      EXPECT_EQ(masked[i], inside ? grad[i] : 0.0f) << i;
      beyond += inside ? 0 : 1;
    }
    EXPECT_GT(beyond, 0);
    options.straight_through = StraightThrough::kIdentity;
    Fake identity(4, 96, options);
    identity.Forward(w);
    ExpectSameBits(identity.Backward(w, grad), grad);
  }
}

#ifdef _OPENMP
TEST(WeightFakeQuantizerTest, ResultsDoNotDependOnTheNumberOfThreads) {
  const Case c = Cases()[1];
  for (const char* granularity : {"tensor", "row", "g64"}) {
    std::vector<std::vector<float>> results[2];
    for (const int threads : {1, 2}) {
      omp_set_num_threads(threads);
      Fake fake(c.rows, c.cols, Learned("pot4", granularity));
      auto& each = results[threads - 1];
      each.push_back(fake.Forward(c.w));
      each.push_back(fake.Backward(c.w, Gauss(90 * 768, 1.0f, 9)));
      each.push_back(fake.gradients);
    }
    for (int i = 0; i < 3; ++i) ExpectSameBits(results[0][i], results[1][i]);
  }
}
#endif

TEST(WeightFakeQuantizerTest, StateRoundTripGoesOnAlike) {
  const Case c = Cases()[0];
  for (const bool learned : {false, true}) {
    for (const bool frozen : {false, true}) {
      FakeQuantizeOptions options = Options("pot4", "g64");
      options.learned_scales = learned;
      options.search_interval = 2;
      Fake fake(c.rows, c.cols, options);
      fake.Forward(c.w);
      if (learned) fake.log_scales[0] += 0.3f;
      if (frozen) fake.quantizer.FreezeCodes(c.w.data());
      StoredState stored(fake.State());
      Fake restored(c.rows, c.cols, options);
      const absl::Status status =
          restored.quantizer.Restore("m.", stored.tensors());
      ASSERT_TRUE(status.ok()) << status;
      std::vector<float> w = c.w;
      for (int step = 0; step < 3; ++step) {
        for (float& x : w) x *= 0.99f;
        ExpectSameBits(fake.Forward(w), restored.Forward(w));
      }
      EXPECT_EQ(fake.quantizer.frozen(), restored.quantizer.frozen());
    }
  }
}

TEST(WeightFakeQuantizerTest, BadStateIsRefusedAndChangesNothing) {
  const std::vector<float> w = Gauss(2 * 64, 0.3f, 10);
  Fake fake(2, 64, Learned("pot4", "g32"));
  const std::vector<float> before = fake.Forward(w);
  fake.quantizer.FreezeCodes(w.data());
  const auto error_with = [&](const char* name, const char* what) {
    StoredState stored(fake.State());
    TensorView& view = stored.tensors().at(name);
    std::vector<uint8_t> bytes(view.bytes.begin(), view.bytes.end());
    if (what == std::string("missing")) {
      stored.tensors().erase(name);
    } else if (what == std::string("shape")) {
      view.shape.back() += 1;
    } else {
      std::fill(bytes.begin(), bytes.end(), uint8_t{0xff});
      view.bytes = bytes;
    }
    return fake.quantizer.Restore("m.", stored.tensors());
  };
  for (const char* name :
       {"m.scales", "m.log_scales", "m.codes", "m.counters"}) {
    for (const char* what : {"missing", "shape", "values"}) {
      if (name == std::string("m.codes") && what == std::string("missing")) {
        continue;  // means that they are not frozen
      }
      const absl::Status status = error_with(name, what);
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(status.message()), HasSubstr(name)) << what;
    }
  }
  ExpectSameBits(before, fake.Forward(w));
}

TEST(WeightFakeQuantizerTest, BadArgumentsAreRefused) {
  const auto create = [](const FakeQuantizeOptions& options, int64_t cols) {
    float memory = 0.0f;
    return WeightFakeQuantizer::Create(1, cols, options, {&memory, &memory})
        .status()
        .code();
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(create(Options("pot4", "row"), 8), absl::StatusCode::kOk);
  EXPECT_EQ(create(FakeQuantizeOptions{}, 8), kInvalid);
  EXPECT_EQ(create(Options("twohot4", "row", QuantizeMode::kPaper), 8),
            kInvalid);
  EXPECT_EQ(create(Options("pot4", "row"), kMaxMatrixCols + 1), kInvalid);
  FakeQuantizeOptions never = Options("pot4", "row");
  never.search_interval = 0;
  EXPECT_EQ(create(never, 8), kInvalid);
  EXPECT_EQ(
      WeightFakeQuantizer::Create(1, 8, Learned("pot4", "row")).status().code(),
      kInvalid);

  Fake fake(1, 4, Options("pot4", "row"));
  std::vector<float> w = {1.0f, 2.0f, 3.0f, 4.0f};
  EXPECT_EQ(fake.quantizer.Export(w.data()).status().code(),
            absl::StatusCode::kFailedPrecondition);
  fake.Forward(w);
  w[2] = std::numeric_limits<float>::quiet_NaN();
  const absl::Status status = fake.quantizer.Export(w.data()).status();
  EXPECT_EQ(status.code(), kInvalid);
  EXPECT_THAT(std::string(status.message()), HasSubstr("row 0, column 2"));
}

}  // namespace
}  // namespace pot
