// The gradients of learned scales against make_lsq_goldens.py and finite
// differences.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/safetensors.h"
#include "gtest/gtest.h"
#include "test_paths.h"
#include "tests/trainer/quantization/fake_quantizer_testing.h"
#include "trainer/quantization/weight_fake_quantizer.h"

namespace pot {
namespace {

TEST(ScaleGradientTest, LearnedScaleGradientsAreLsqs) {
  const auto goldens = SafetensorsFile::Open(
      POT_SOURCE_DIR "/tests/trainer/quantization/goldens/lsq.safetensors");
  ASSERT_TRUE(goldens.ok()) << goldens.status();
  const auto read = [&]<typename T>(const std::string& name, T) {
    const TensorView* view = (*goldens)->Find(name);
    std::vector<T> values(view->bytes.size() / sizeof(T));
    std::memcpy(values.data(), view->bytes.data(), view->bytes.size());
    return values;
  };
  struct Golden {
    const char *format, *granularity;
    float sign;
  };
  for (const Golden& golden :
       {Golden{"twohot4", "g32", 1.0f}, Golden{"pot4", "row", -1.0f},
        Golden{"pot3-strict", "tensor", 1.0f}}) {
    const std::string name =
        absl::StrCat(golden.format, "/", golden.granularity);
    SCOPED_TRACE(name);
    const std::vector<float> w = read(name + "/w", 0.0f);
    const std::vector<float> upstream = read(name + "/upstream", 0.0f);
    const std::vector<double> q = read(name + "/q", 0.0);
    const std::vector<double> dw = read(name + "/dw", 0.0);
    const std::vector<double> dlog = read(name + "/dlog_scales", 0.0);
    Fake fake(5, 70, Learned(golden.format, golden.granularity));
    ASSERT_EQ(fake.log_scales.size(), dlog.size());
    // Starts where the golden does, which no search would.
    fake.Forward(w);
    StoredState stored(fake.State());
    const std::vector<float> logs = read(name + "/log_scales", 0.0f);
    const std::vector<float> signs(logs.size(), golden.sign);
    const auto replace = [&](const char* what, const std::vector<float>& by) {
      stored.tensors().at(what).bytes = absl::MakeConstSpan(
          reinterpret_cast<const uint8_t*>(by.data()), by.size() * 4);
    };
    replace("m.log_scales", logs);
    replace("m.scales", signs);
    ASSERT_TRUE(fake.quantizer.Restore("m.", stored.tensors()).ok());

    const std::vector<float> effective = fake.Forward(w);
    const std::vector<float> grad = fake.Backward(w, upstream);
    double size = 0.0;
    for (size_t i = 0; i < w.size(); ++i) {
      // exp within 1.5 ulp of 2^-23, and the product's rounding.
      EXPECT_NEAR(effective[i], q[i], std::fabs(q[i]) * 0x1p-22) << i;
      EXPECT_EQ(grad[i], static_cast<float>(dw[i])) << i;
      size = std::max(size, std::fabs(double{upstream[i]}) *
                                (std::fabs(q[i]) + std::fabs(double{w[i]})));
    }
    const double top = golden.granularity == std::string("row")  ? 128.0
                       : golden.format == std::string("twohot4") ? 28.0
                                                                 : 8.0;
    for (size_t i = 0; i < dlog.size(); ++i) {
      const int64_t count = golden.granularity == std::string("tensor") ? 350
                            : golden.granularity == std::string("row")  ? 70
                            : i % 3 == 2                                ? 6
                                                                        : 32;
      // Each term is off by 2^-22 of its parts (q, as above, and two
      // roundings), each lane's sum of up to count / 16 + 1 by 2^-24 a time.
      const double terms = static_cast<double>(count);
      const double bound = size * terms *
                           (0x1p-22 + (terms / 16 + 1) * 0x1p-24) /
                           std::sqrt(terms * top);
      EXPECT_NEAR(fake.gradients[i], dlog[i], bound) << i;
      EXPECT_GT(std::fabs(dlog[i]), 10 * bound);
    }
  }
}

TEST(ScaleGradientTest, FrozenScaleGradientsMatchFiniteDifferences) {
  constexpr int64_t kRows = 3, kCols = 100;
  const std::vector<float> w = Gauss(kRows * kCols, 0.3f, 6);
  const std::vector<float> target = Gauss(kRows * kCols, 0.3f, 7);
  for (const char* granularity : {"tensor", "row", "g32"}) {
    SCOPED_TRACE(granularity);
    Fake fake(kRows, kCols, Learned("pot4", granularity));
    fake.Forward(w);
    fake.quantizer.FreezeCodes(w.data());
    const std::vector<float> q = fake.Forward(w);
    std::vector<float> grad(q.size());
    for (size_t i = 0; i < q.size(); ++i) grad[i] = q[i] - target[i];
    const std::vector<float> dw = fake.Backward(w, grad);
    EXPECT_EQ(dw, std::vector<float>(w.size(), 0.0f));

    const bool tensor = granularity == std::string("tensor");
    const int64_t run = tensor                              ? kRows * kCols
                        : granularity == std::string("row") ? kCols
                                                            : 32;
    const int64_t per_row = (kCols + run - 1) / run;
    for (int64_t i = 0; i < fake.quantizer.num_scales(); ++i) {
      const int64_t first =
          tensor ? 0 : i / per_row * kCols + i % per_row * run;
      const int64_t count =
          tensor ? run : std::min(run, kCols - i % per_row * run);
      // L(d) = 1/2 sum (q e^d - t)^2 is half a quadratic in e^d: a central
      // difference errs by h^2 / 6 L''' , at most h^2 times the sum of
      // magnitudes below.
      const double h = 1e-5;
      const auto loss = [&](double d) {
        double sum = 0.0;
        for (int64_t k = first; k < first + count; ++k) {
          const double e = q[k] * std::exp(d) - target[k];
          sum += 0.5 * e * e;
        }
        return sum;
      };
      double size = 0.0;
      for (int64_t k = first; k < first + count; ++k) {
        size += 4.0 * q[k] * q[k] + std::fabs(q[k] * target[k]);
      }
      const double g = 1.0 / std::sqrt(static_cast<double>(count) * 128.0);
      const double expected = g * (loss(h) - loss(-h)) / (2 * h);
      // Rounding: as in LearnedScaleGradientsAreLsqs; the difference's own is
      // 2^-52 of the loss over h.
      const double bound =
          g * size * (h * h + (count / 16.0 + 5) * 0x1p-24 + 0x1p-52 / h);
      EXPECT_NEAR(fake.gradients[i], expected, bound) << i;
      EXPECT_GT(std::fabs(expected), 10 * bound) << i;
    }
  }
}

TEST(ScaleGradientTest, GradientsAddUpOverCalls) {
  const std::vector<float> w = Gauss(2 * 64, 0.3f, 8);
  Fake fake(2, 64, Learned("twohot4", "g32"));
  fake.Forward(w);
  fake.Backward(w, w);
  const std::vector<float> once = fake.gradients;
  fake.Backward(w, w);
  for (size_t i = 0; i < once.size(); ++i) {
    EXPECT_EQ(fake.gradients[i], 2 * once[i]);
    EXPECT_NE(once[i], 0.0f);
  }
}

}  // namespace
}  // namespace pot
