// QuantizePot against make_quantizer_goldens.py.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/quant/pot_quantizer.h"
#include "gtest/gtest.h"
#include "tests/engine/quant/golden_file.h"

namespace pot {
namespace {

constexpr const char* kGranularities[] = {"tensor", "row", "g32", "g128"};
constexpr const char* kMatrices[] = {"gauss", "tails", "edges"};

using Goldens = std::map<std::string, GoldenTensor>;

// The level of a golden: 0, or the sign of `m` times 2^(|m|-1).
double LevelOf(int8_t m) {
  return m == 0 ? 0.0 : std::copysign(std::ldexp(1.0, std::abs(m) - 1), m);
}

TEST(QuantizerGoldenTest, PaperModeEqualsThePapersArithmetic) {
  Goldens goldens = ReadGoldens();
  int cases = 0;
  for (const char* matrix : kMatrices) {
    const GoldenTensor& stored = goldens[absl::StrCat("weights/", matrix)];
    const auto weights = stored.As<float>();
    for (const PotFormat& format : AllPotFormats()) {
      if (format.paper_max_exponent < 0) continue;
      for (const char* grain : kGranularities) {
        for (const char* eps : {"0", "1_32"}) {
          const std::string name = absl::StrCat(
              "paper/", matrix, "/", format.name, "/", grain, "/", eps);
          SCOPED_TRACE(name);
          const auto levels = goldens[name + "/levels"].As<int8_t>();
          const auto scales = goldens[name + "/scales"].As<float>();
          ASSERT_EQ(levels.size(), weights.size());
          QuantizeOptions options;
          options.format = &format;
          options.granularity = *Granularity::Parse(grain);
          options.mode = QuantizeMode::kPaper;
          options.paper_eps = eps == std::string("0") ? 0.0f : 0x1p-5f;
          const auto result =
              QuantizePot(weights, stored.rows, stored.cols, options);
          ASSERT_TRUE(result.ok()) << result.status();
          ASSERT_EQ(std::vector<float>(result->scales().begin(),
                                       result->scales().end()),
                    scales);
          std::vector<PotCode> codes(stored.cols);
          for (int64_t row = 0; row < stored.rows; ++row) {
            result->UnpackRow(row, absl::MakeSpan(codes));
            for (int64_t k = 0; k < stored.cols; ++k) {
              ASSERT_EQ(format.levels[codes[k]],
                        LevelOf(levels[row * stored.cols + k]))
                  << "row " << row << " column " << k << " weight "
                  << weights[row * stored.cols + k];
            }
          }
          ++cases;
        }
      }
    }
  }
  EXPECT_EQ(cases, 3 * 5 * 4 * 2);
}

double GroupError(const float* w, int64_t n, double scale,
                  const PotFormat& format, const PotCode* codes) {
  double error = 0.0;
  for (int64_t i = 0; i < n; ++i) {
    const double e = w[i] - scale * format.levels[codes[i]];
    error += e * e;
  }
  return error;
}

// The search sums squared errors in float32, the goldens' in float64: where
// two scales are equally good to its rounding, either may win. A term
// (x - q)^2 carries 2 |x - q| |x| 2^-23 at most, so that by Cauchy-Schwarz a
// sum E^2 is off by less than 2^-22 |x| / E of itself, and by 2^-19 more for
// adding 32 terms a lane; |x| / E stays below 32 where one scale is not exact.
constexpr double kErrorTolerance = 1e-5;
// A scale is rounded to float32 by both sides, from steps computed differently.
constexpr double kScaleTolerance = 0x1p-22;

// `same`: the share of groups that must have the scale of the float64 search.
void ExpectExhaustiveSearch(QuantizeMode mode,
                            absl::Span<const char* const> granularities,
                            double same) {
  Goldens goldens = ReadGoldens();
  int groups_checked = 0, same_scale = 0;
  for (const char* matrix : kMatrices) {
    const GoldenTensor& stored = goldens[absl::StrCat("weights/", matrix)];
    const auto weights = stored.As<float>();
    for (const PotFormat& format : AllPotFormats()) {
      for (const char* grain : granularities) {
        const std::string name = absl::StrCat(
            QuantizeModeName(mode), "/", matrix, "/", format.name, "/", grain);
        SCOPED_TRACE(name);
        const auto golden_codes = goldens[name + "/codes"].As<uint8_t>();
        const auto golden_scales = goldens[name + "/scales"].As<float>();
        ASSERT_EQ(golden_codes.size(), weights.size());
        QuantizeOptions options;
        options.format = &format;
        options.granularity = *Granularity::Parse(grain);
        options.mode = mode;
        const auto result =
            QuantizePot(weights, stored.rows, stored.cols, options);
        ASSERT_TRUE(result.ok()) << result.status();
        std::vector<PotCode> codes(weights.size());
        for (int64_t row = 0; row < stored.rows; ++row) {
          result->UnpackRow(row, absl::MakeSpan(codes).subspan(
                                     row * stored.cols, stored.cols));
        }
        // Groups as runs of consecutive weights.
        const bool tensor = grain == std::string("tensor");
        const int64_t rows = tensor ? 1 : stored.rows;
        const int64_t cols = tensor ? stored.rows * stored.cols : stored.cols;
        const int64_t size = options.granularity.GroupSize(cols);
        size_t g = 0;
        for (int64_t row = 0; row < rows; ++row) {
          for (int64_t begin = 0; begin < cols; begin += size, ++g) {
            const int64_t n = std::min(size, cols - begin);
            const int64_t at = row * cols + begin;
            ASSERT_LT(g, golden_scales.size());
            const double golden = golden_scales[g];
            const double scale = result->scales()[g];
            const double best =
                GroupError(&weights[at], n, golden, format, &golden_codes[at]);
            const double error =
                GroupError(&weights[at], n, scale, format, &codes[at]);
            // Never worse; and the codes of the same scale are the same.
            EXPECT_LE(error, best * (1 + kErrorTolerance)) << "group " << g;
            ++groups_checked;
            if (std::abs(scale - golden) > std::abs(golden) * kScaleTolerance) {
              continue;
            }
            ++same_scale;
            for (int64_t i = at; i < at + n; ++i) {
              EXPECT_EQ(codes[i], golden_codes[i])
                  << "weight " << weights[i] << " under " << scale;
            }
          }
        }
        EXPECT_EQ(g, golden_scales.size());
      }
    }
  }
  std::printf("%d of %d groups have the scale of the float64 search\n",
              same_scale, groups_checked);
  // More than a few near ties would be a defect.
  EXPECT_GE(same_scale, groups_checked * same);
}

TEST(QuantizerGoldenTest, NearestModeEqualsExhaustiveSearch) {
  ExpectExhaustiveSearch(QuantizeMode::kNearest, kGranularities, 0.99);
}

TEST(QuantizerGoldenTest, PotPtqEqualsExhaustiveSearch) {
  // Steps i and 2 i give the same weights where no level is clipped or too
  // small: real ties, which rounding decides.
  ExpectExhaustiveSearch(QuantizeMode::kPotPtq, {"row", "g32"}, 0.95);
}

}  // namespace
}  // namespace pot
