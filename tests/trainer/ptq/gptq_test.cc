// GPTQ against its definition in NumPy (gptq_goldens.json, made by
// make_gptq_goldens.py), and the factorization under it.
#include "trainer/ptq/gptq.h"

#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "test_paths.h"

namespace pot {
namespace {

constexpr int64_t kRows = 8, kCols = 160, kTokens = 400;

// The formulas of make_gptq_goldens.py.
float Value(int64_t a, int64_t b) {
  const int64_t mixed = (a * 7919 + b * 104729 + (a + 3) * (b + 7) * 31) % 4093;
  return static_cast<float>(mixed) / 4096.0f - 0.5f;
}

std::vector<float> Inputs() {
  std::vector<float> x(kTokens * kCols);
  for (int64_t t = 0; t < kTokens; ++t) {
    float mixed = 0;
    for (int64_t k = 0; k < kCols; ++k) {
      mixed = Value(t, k) + 0.75f * mixed;
      x[t * kCols + k] = k == 13 ? 0.0f : mixed * static_cast<float>(1 + k % 5);
    }
  }
  return x;
}

std::vector<float> Weights() {
  std::vector<float> w(kRows * kCols);
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t k = 0; k < kCols; ++k) {
      w[r * kCols + k] = Value(r + 1000, k) * std::fabs(Value(r, k + 77));
    }
  }
  return w;
}

std::vector<float> HessianOf(const std::vector<float>& x) {
  std::vector<double> sums(kCols * kCols);
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t i = 0; i < kCols; ++i) {
      for (int64_t j = 0; j < kCols; ++j) {
        sums[i * kCols + j] += double{x[t * kCols + i]} * x[t * kCols + j];
      }
    }
  }
  return {sums.begin(), sums.end()};
}

// sum ((W - Q) x)^2 / sum (W x)^2.
double OutputError(const std::vector<float>& w, const PotMatrix& quantized,
                   const std::vector<float>& x) {
  double error = 0, whole = 0;
  std::vector<float> row(kCols);
  for (int64_t r = 0; r < kRows; ++r) {
    quantized.DequantizeRow(r, absl::MakeSpan(row));
    for (int64_t t = 0; t < kTokens; ++t) {
      double difference = 0, output = 0;
      for (int64_t k = 0; k < kCols; ++k) {
        const double input = x[t * kCols + k];
        difference += (double{w[r * kCols + k]} - row[k]) * input;
        output += double{w[r * kCols + k]} * input;
      }
      error += difference * difference;
      whole += output * output;
    }
  }
  return error / whole;
}

QuantizeOptions Options() {
  QuantizeOptions options;
  options.format = *FindPotFormat("pot4");
  options.granularity = *Granularity::Parse("g64");
  return options;
}

class GptqTest : public testing::TestWithParam<bool> {};

TEST_P(GptqTest, EqualsItsDefinition) {
  std::ifstream file(POT_SOURCE_DIR "/tests/trainer/ptq/gptq_goldens.json");
  const nlohmann::json golden = nlohmann::json::parse(
      file)[GetParam() ? "activation_order" : "given_order"];
  const std::vector<float> x = Inputs(), w = Weights();
  GptqOptions gptq;
  gptq.activation_order = GetParam();
  const auto factor = FactorHessian(HessianOf(x), kCols, gptq);
  ASSERT_TRUE(factor.ok()) << factor.status();
  EXPECT_EQ(factor->damping, 0.01);
  const auto products = *Products<float>::Create(Precision::kF32);
  const auto quantized =
      QuantizeGptq(w, kRows, kCols, Options(), *factor, products.get());
  ASSERT_TRUE(quantized.ok()) << quantized.status();

  // In float a weight may fall on the other side of a threshold, and what is
  // made up for it then changes others of its row.
  int differences = 0;
  std::vector<PotCode> codes(kCols);
  for (int64_t r = 0; r < kRows; ++r) {
    quantized->UnpackRow(r, absl::MakeSpan(codes));
    for (int64_t k = 0; k < kCols; ++k) {
      const int level = golden["levels"][r][k];
      differences += quantized->format().levels[codes[k]] != level;
    }
  }
  EXPECT_LE(differences, kRows * kCols / 100);
  const double error = OutputError(w, *quantized, x);
  EXPECT_NEAR(error, golden["output_error"].get<double>(), 0.02 * error);
  const auto nearest = QuantizePot(w, kRows, kCols, Options());
  ASSERT_TRUE(nearest.ok());
  EXPECT_LT(error, 0.5 * OutputError(w, *nearest, x));

  const auto refined =
      QuantizeGptq(w, kRows, kCols, Options(), *factor, products.get(), 2);
  ASSERT_TRUE(refined.ok()) << refined.status();
  const double refined_error = OutputError(w, *refined, x);
  EXPECT_NEAR(refined_error, golden["refined_error"].get<double>(),
              0.02 * refined_error);
  EXPECT_LT(refined_error, 0.9 * error);
}

TEST_P(GptqTest, GroupsKeepTheirPowersOfTwoOfARowsScale) {
  const std::vector<float> x = Inputs(), w = Weights();
  GptqOptions gptq;
  gptq.activation_order = GetParam();
  const auto factor = FactorHessian(HessianOf(x), kCols, gptq);
  ASSERT_TRUE(factor.ok()) << factor.status();
  const auto products = *Products<float>::Create(Precision::kF32);
  QuantizeOptions options = Options();
  options.granularity = *Granularity::Parse("g32p2");
  const auto nearest = QuantizePot(w, kRows, kCols, options);
  ASSERT_TRUE(nearest.ok()) << nearest.status();
  double error = 0.5 * OutputError(w, *nearest, x);
  for (const int refinements : {0, 2}) {
    const auto quantized = QuantizeGptq(w, kRows, kCols, options, *factor,
                                        products.get(), refinements);
    ASSERT_TRUE(quantized.ok()) << quantized.status();
    EXPECT_EQ(quantized->granularity(), options.granularity);
    EXPECT_EQ(quantized->packed_factors(), nearest->packed_factors());
    EXPECT_EQ(quantized->scales().size(), kRows);
    EXPECT_EQ(quantized->scales() == nearest->scales(), refinements == 0);
    EXPECT_LT(OutputError(w, *quantized, x), error);
    error = 0.95 * OutputError(w, *quantized, x);
  }
}

TEST_P(GptqTest, OutliersTakeUpTheErrorsBeforeThemAndLeaveNone) {
  const std::vector<float> x = Inputs(), w = Weights();
  GptqOptions gptq;
  gptq.activation_order = GetParam();
  const auto factor = FactorHessian(HessianOf(x), kCols, gptq);
  ASSERT_TRUE(factor.ok()) << factor.status();
  const auto products = *Products<float>::Create(Precision::kF32);
  const auto output_error = [&](double outliers) {
    QuantizeOptions options = Options();
    options.outliers = outliers;
    const auto quantized =
        QuantizeGptq(w, kRows, kCols, options, *factor, products.get());
    EXPECT_TRUE(quantized.ok()) << quantized.status();
    EXPECT_EQ(quantized->outliers().size(),
              static_cast<int64_t>(outliers * kRows * kCols));
    return OutputError(w, *quantized, x);
  };
  // An eighth of the weights' power is in these; a third of the error goes.
  EXPECT_LT(output_error(0.05), 0.8 * output_error(0));
}

INSTANTIATE_TEST_SUITE_P(Orders, GptqTest, testing::Bool(),
                         [](const auto& test) {
                           return test.param ? "Activation" : "Given";
                         });

TEST(FactorHessianTest, DampsMoreWhereItMustAndSaysSo) {
  // Not positive definite, as sums in float can be.
  std::vector<float> hessian = {1, 1.05f, 1.05f, 1};
  const auto factor = FactorHessian(hessian, 2, GptqOptions());
  ASSERT_TRUE(factor.ok()) << factor.status();
  EXPECT_EQ(factor->damping, 0.1);
  hessian = {1, 3, 3, 1};
  EXPECT_EQ(FactorHessian(hessian, 2, GptqOptions()).status().code(),
            absl::StatusCode::kFailedPrecondition);
  hessian[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(FactorHessian(hessian, 2, GptqOptions()).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FactorHessian({}, 0, {.damping = 0}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace pot
