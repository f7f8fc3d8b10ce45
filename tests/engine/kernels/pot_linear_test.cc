// PotLinear against double precision, and against itself over batch sizes,
// threads and kernels.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/base/thread_pool.h"
#include "engine/kernels/linear.h"
#include "engine/kernels/packed_pot_matrix.h"
#include "gtest/gtest.h"
#include "tests/engine/kernels/kernel_test_util.h"

namespace pot {
namespace {

std::vector<float> Forward(const Linear& linear, const std::vector<float>& x,
                           int64_t rows, ThreadPool* pool) {
  // NaN shows an output that was not written.
  std::vector<float> y(rows * linear.outputs() + 1, NAN);
  const absl::Status status = linear.Forward(x.data(), rows, y.data(), pool);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(std::isnan(y.back()));
  y.pop_back();
  return y;
}

// sum over k of W[n][k] * scale * (a[k] - zero_point) + bias in double, and the
// sum of the magnitudes, which is what rounding errors are relative to.
struct Exact {
  double value = 0;
  double magnitude = 0;
};

std::vector<Exact> ExactForward(const PotMatrix& matrix,
                                const std::vector<float>& bias,
                                ActivationMode mode,
                                const std::vector<float>& x, int64_t rows) {
  std::vector<Exact> y(rows * matrix.rows());
  std::vector<int8_t> a(matrix.cols());
  std::vector<PotCode> codes(matrix.cols());
  const int64_t group_size = matrix.granularity().GroupSize(matrix.cols());
  for (int64_t row = 0; row < rows; ++row) {
    const ActivationScale scale = QuantizeActivation(
        x.data() + row * matrix.cols(), matrix.cols(), mode, a.data());
    for (int64_t n = 0; n < matrix.rows(); ++n) {
      matrix.UnpackRow(n, absl::MakeSpan(codes));
      Exact& exact = y[row * matrix.rows() + n];
      for (int64_t k = 0; k < matrix.cols(); ++k) {
        const double term = double{matrix.Scale(n, k / group_size)} *
                            matrix.format().levels[codes[k]] * scale.scale *
                            (a[k] - scale.zero_point);
        exact.value += term;
        exact.magnitude += std::fabs(term);
      }
      if (!bias.empty()) {
        exact.value += bias[n];
        exact.magnitude += std::fabs(bias[n]);
      }
    }
  }
  return y;
}

class PotLinearTest : public KernelTableTest {};
INSTANTIATE_TEST_SUITE_P(Tables, PotLinearTest, EveryTable(), TableName);

TEST_P(PotLinearTest, EqualsDequantizedArithmetic) {
  ThreadPool pool(2);
  uint32_t seed = 20;
  for (const PotFormat& format : AllPotFormats()) {
    for (const Granularity& granularity : AllGranularities()) {
      for (const auto& [outputs, inputs] : {std::pair<int64_t, int64_t>{1, 1},
                                            {63, 7},
                                            {64, 8},
                                            {65, 9},
                                            {130, 33},
                                            {65, 100},
                                            {64, 768}}) {
        for (const ActivationMode mode :
             {ActivationMode::kAffine, ActivationMode::kSymmetric}) {
          const PotMatrix matrix =
              RandomMatrix(format, outputs, inputs, granularity, ++seed);
          const std::vector<float> bias =
              seed % 3 == 0 ? std::vector<float>()
                            : RandomFloats(outputs, -1.0f, 1.0f, seed);
          const auto linear =
              MakePotLinear(matrix, bias, mode, &table()).value();
          ASSERT_EQ(linear->inputs(), inputs);
          ASSERT_EQ(linear->outputs(), outputs);
          const std::vector<float> x =
              RandomFloats(3 * inputs, -1.0f, 2.5f, seed);
          const std::vector<float> y = Forward(*linear, x, 3, &pool);
          const std::vector<Exact> exact =
              ExactForward(matrix, bias, mode, x, 3);
          for (size_t i = 0; i < y.size(); ++i) {
            // The integer part is exact, so only the float epilogue rounds:
            // each group's sum, product and addition, then scale and bias; at
            // most 3 * 24 + 3 roundings of 2^-24 relative to the sum of
            // magnitudes, 4.5e-6. The project's promise is 1e-4.
            ASSERT_NEAR(y[i], exact[i].value, 4.5e-6 * exact[i].magnitude)
                << std::string(format.name) << " " << granularity.ToString()
                << " " << outputs << " x " << inputs << " at " << i;
          }
        }
      }
    }
  }
}

TEST_P(PotLinearTest, RowBitsDependOnTheRowAlone) {
  // Enough rows for every table's tiles, and a tail.
  constexpr int64_t kOutputs = 200, kInputs = 100, kRows = 67;
  if (table().tile != nullptr) {
    ASSERT_LE(table().tile->min_rows, kRows);
  }
  ThreadPool one(1), three(3);
  for (const char* name : {"pot4", "pot4-strict", "twohot4", "pot3", "pot5"}) {
    for (const Granularity& granularity : AllGranularities()) {
      const PotMatrix matrix = RandomMatrix(*FindPotFormat(name).value(),
                                            kOutputs, kInputs, granularity, 5);
      const std::vector<float> bias = RandomFloats(kOutputs, -1.0f, 1.0f, 6);
      const auto linear =
          MakePotLinear(matrix, bias, ActivationMode::kAffine, &table())
              .value();
      const auto expected_linear =
          MakePotLinear(matrix, bias, ActivationMode::kAffine, &reference())
              .value();
      const std::vector<float> x = RandomFloats(kRows * kInputs, -2, 3, 7);
      const std::vector<float> y = Forward(*linear, x, kRows, &three);
      EXPECT_EQ(BitsOf(y), BitsOf(Forward(*expected_linear, x, kRows, &one)));
      EXPECT_EQ(BitsOf(y), BitsOf(Forward(*linear, x, kRows, nullptr)));
      // Every number of rows that kernels have code of its own for.
      for (const int64_t rows : {2, 3, 4, 5, 6, 7, 8, 9, 20}) {
        EXPECT_EQ(BitsOf(Forward(*linear, x, rows, &three)),
                  BitsOf({y.begin(), y.begin() + rows * kOutputs}))
            << name << " " << granularity.ToString() << " " << rows << " rows";
      }
      for (int64_t row = 0; row < kRows; row += 3) {
        const std::vector<float> x_row(x.begin() + row * kInputs,
                                       x.begin() + (row + 1) * kInputs);
        EXPECT_EQ(BitsOf(Forward(*linear, x_row, 1, &one)),
                  BitsOf({y.begin() + row * kOutputs,
                          y.begin() + (row + 1) * kOutputs}))
            << name << " " << granularity.ToString() << " row " << row;
      }
    }
  }
}

// y[row][n] of the linear without outliers, plus what pot_outliers.h says.
std::vector<float> AddOutliersByDefinition(const PotMatrix& matrix,
                                           const std::vector<float>& x,
                                           int64_t rows, std::vector<float> y) {
  const OutlierView& outliers = matrix.outliers();
  std::vector<int8_t> a(matrix.cols());
  for (int64_t row = 0; row < rows; ++row) {
    const ActivationScale scale =
        QuantizeActivation(x.data() + row * matrix.cols(), matrix.cols(),
                           ActivationMode::kAffine, a.data());
    std::vector<int64_t> sums(matrix.rows());
    for (int64_t i = 0; i < outliers.size(); ++i) {
      const int64_t position = outliers.positions[i];
      sums[position / matrix.cols()] +=
          int64_t{outliers.values[i]} *
          (a[position % matrix.cols()] - scale.zero_point);
    }
    for (int64_t n = 0; n < matrix.rows(); ++n) {
      EXPECT_EQ(sums[n], static_cast<int32_t>(sums[n]));
      y[row * matrix.rows() + n] +=
          static_cast<float>(sums[n]) * outliers.scale * scale.scale;
    }
  }
  return y;
}

// One float of a row after exact integers: the definition, literally. Rows that
// fit int32 and rows that do not.
TEST_P(PotLinearTest, PowersOfTwoKeepARowInIntegers) {
  constexpr int64_t kRows = 49;
  ThreadPool three(3);
  uint32_t seed = 80;
  for (const char* name : {"pot4", "pot4-strict", "twohot4", "pot3", "pot6"}) {
    // Random codes of pot4-strict and random factors are 32 and 24 on average:
    // 16 400 of them, under activations of 254, exceed int32.
    for (const auto& [outputs, inputs] :
         {std::pair<int64_t, int64_t>{70, 70}, {65, 16400}}) {
      const PotFormat& format = *FindPotFormat(name).value();
      const PotMatrix matrix =
          RandomMatrix(format, outputs, inputs,
                       {Granularity::Kind::kGroup, 32, true}, ++seed);
      const PackedPotMatrix packed(matrix);
      if (inputs == 70 && format.bits <= 4) {
        EXPECT_TRUE(packed.fits_int32()) << name;
      }
      if (inputs == 16400 && format.name == "pot4-strict") {
        EXPECT_FALSE(packed.fits_int32());
      }
      const std::vector<float> bias = RandomFloats(outputs, -1.0f, 1.0f, seed);
      const auto linear =
          MakePotLinear(matrix, bias, ActivationMode::kAffine, &table())
              .value();
      const std::vector<float> x =
          RandomFloats(kRows * inputs, -1.0f, 2.5f, seed);
      const std::vector<float> y = Forward(*linear, x, kRows, &three);
      for (const int64_t rows : {1, 3, 5, 8, 17}) {
        ASSERT_EQ(BitsOf(Forward(*linear, x, rows, nullptr)),
                  BitsOf({y.begin(), y.begin() + rows * outputs}))
            << name << " " << rows << " rows";
      }
      std::vector<PotCode> codes(inputs);
      std::vector<int8_t> a(inputs);
      for (int64_t n = 0; n < outputs; n += 7) {
        matrix.UnpackRow(n, absl::MakeSpan(codes));
        for (int64_t row = 0; row < kRows; row += 10) {
          const ActivationScale scale =
              QuantizeActivation(x.data() + row * inputs, inputs,
                                 ActivationMode::kAffine, a.data());
          int64_t sum = 0;
          for (int64_t k = 0; k < inputs; ++k) {
            sum += int64_t{matrix.Factor(n, k / 32)} * format.levels[codes[k]] *
                   (a[k] - scale.zero_point);
          }
          const float expected =
              matrix.scales()[n] * static_cast<float>(sum) * scale.scale +
              bias[n];
          ASSERT_EQ(y[row * outputs + n], expected) << name << " at " << n;
        }
      }
    }
  }
}

TEST_P(PotLinearTest, OutliersAreAddedByTheirDefinition) {
  constexpr int64_t kRows = 67;
  ThreadPool one(1), three(3);
  uint32_t seed = 50;
  for (const char* name : {"pot4", "pot4-strict", "twohot4", "pot6"}) {
    for (const auto& [outputs, inputs] :
         {std::pair<int64_t, int64_t>{1, 1}, {63, 7}, {65, 9}, {200, 100}}) {
      const PotMatrix dense =
          RandomMatrix(*FindPotFormat(name).value(), outputs, inputs,
                       {Granularity::Kind::kRow, 0}, ++seed);
      const PotMatrix matrix = WithRandomOutliers(
          dense, std::max<int64_t>(1, outputs * inputs / 50), seed);
      const std::vector<float> bias = RandomFloats(outputs, -1.0f, 1.0f, seed);
      const auto make = [&](const PotMatrix& of) {
        return MakePotLinear(of, bias, ActivationMode::kAffine, &table())
            .value();
      };
      const auto linear = make(matrix);
      const std::vector<float> x =
          RandomFloats(kRows * inputs, -1.0f, 2.5f, seed);
      const std::vector<float> expected = AddOutliersByDefinition(
          matrix, x, kRows, Forward(*make(dense), x, kRows, &one));
      // All that is left over from tiles, and both sides of where they begin.
      for (const int64_t rows : {1, 2, 5, 6, 7, 15, 16, 17, 21, 24, 67}) {
        for (ThreadPool* pool : {&one, &three}) {
          ASSERT_EQ(
              BitsOf(Forward(*linear, x, rows, pool)),
              BitsOf({expected.begin(), expected.begin() + rows * outputs}))
              << name << " " << outputs << " x " << inputs << ", " << rows
              << " rows";
        }
      }
    }
  }
}

// At the limits of int32: rows of outliers of the greatest sum, under
// activations of -127 and 127 with a zero point at the other end.
TEST_P(PotLinearTest, TheLargestSumsOfOutliersAreExact) {
  constexpr int64_t kInputs = 300, kOutputs = 66;
  std::vector<uint32_t> positions;
  std::vector<int16_t> values;
  for (int64_t n = 0; n < kOutputs; ++n) {
    for (int64_t k = 0; k < 256; ++k) {
      positions.push_back(n * kInputs + k);
      values.push_back(n % 2 == 0 ? -32768 : 32767);
    }
  }
  const PotMatrix dense =
      RandomMatrix(*FindPotFormat("pot4").value(), kOutputs, kInputs,
                   {Granularity::Kind::kRow, 0}, 60);
  const PotMatrix matrix =
      dense.WithOutliers({1.0f, positions, values}, nullptr).value();
  for (const float sign : {1.0f, -1.0f}) {
    const std::vector<float> x(16 * kInputs, sign);
    const auto linear =
        MakePotLinear(matrix, {}, ActivationMode::kAffine, &table()).value();
    const std::vector<float> expected = AddOutliersByDefinition(
        matrix, x, 16,
        Forward(*MakePotLinear(dense, {}, ActivationMode::kAffine, &table())
                     .value(),
                x, 16, nullptr));
    EXPECT_EQ(BitsOf(Forward(*linear, x, 16, nullptr)), BitsOf(expected));
    const std::vector<float> x_row(x.begin(), x.begin() + kInputs);
    EXPECT_EQ(BitsOf(Forward(*linear, x_row, 1, nullptr)),
              BitsOf({expected.begin(), expected.begin() + kOutputs}));
  }
}

TEST_P(PotLinearTest, ZeroInputGivesTheBias) {
  const PotMatrix matrix =
      RandomMatrix(*FindPotFormat("pot4-strict").value(), 70, 20,
                   {Granularity::Kind::kRow, 0}, 8);
  const std::vector<float> bias = RandomFloats(70, -1.0f, 1.0f, 9);
  const auto linear =
      MakePotLinear(matrix, bias, ActivationMode::kAffine, &table()).value();
  EXPECT_EQ(Forward(*linear, std::vector<float>(20, 0.0f), 1, nullptr), bias);
}

TEST(PotLinear, FloatActivationsUseTheDequantizedWeights) {
  const PotMatrix matrix =
      WithRandomOutliers(RandomMatrix(*FindPotFormat("twohot4").value(), 70, 40,
                                      {Granularity::Kind::kGroup, 32}, 10),
                         30, 11);
  const std::vector<float> bias = RandomFloats(70, -1.0f, 1.0f, 11);
  const auto linear =
      MakePotLinear(matrix, bias, ActivationMode::kFloat, AllKernelTables()[0])
          .value();
  const std::vector<float> x = RandomFloats(2 * 40, -1.0f, 1.0f, 12);
  const std::vector<float> y = Forward(*linear, x, 2, nullptr);
  std::vector<float> weights(40), expected_weights(40);
  for (int64_t n = 0; n < 70; ++n) {
    matrix.DequantizeRow(n, absl::MakeSpan(expected_weights));
    linear->WeightRow(n, absl::MakeSpan(weights));
    ASSERT_EQ(weights, expected_weights);
    for (int64_t row = 0; row < 2; ++row) {
      double exact = bias[n], magnitude = std::fabs(bias[n]);
      for (int64_t k = 0; k < 40; ++k) {
        exact += double{weights[k]} * x[row * 40 + k];
        magnitude += std::fabs(double{weights[k]} * x[row * 40 + k]);
      }
      // 41 products and sums, each rounded once.
      EXPECT_NEAR(y[row * 70 + n], exact, 42 * 0x1p-24 * magnitude);
    }
  }
}

TEST(PotLinear, WeightRowsAreThoseOfTheMatrix) {
  bool power_of_two = false;
  for (const PotFormat& format : AllPotFormats()) {
    power_of_two = !power_of_two;
    const PotMatrix matrix = WithRandomOutliers(
        RandomMatrix(format, 70, 45,
                     {Granularity::Kind::kGroup, 32, power_of_two}, 13),
        60, 14);
    const auto linear =
        MakePotLinear(matrix, {}, ActivationMode::kAffine, AllKernelTables()[0])
            .value();
    std::vector<float> weights(45), expected(45);
    for (const int64_t n : {0, 63, 64, 69}) {
      matrix.DequantizeRow(n, absl::MakeSpan(expected));
      linear->WeightRow(n, absl::MakeSpan(weights));
      EXPECT_EQ(weights, expected);
    }
    EXPECT_GT(linear->resident_bytes(), 0);
  }
}

TEST(PotLinear, RefusesBadArguments) {
  const PotMatrix matrix = RandomMatrix(*FindPotFormat("pot4").value(), 3, 5,
                                        {Granularity::Kind::kRow, 0}, 14);
  const KernelTable* kernels = AllKernelTables()[0];
  const auto bad_bias =
      MakePotLinear(matrix, {1, 2}, ActivationMode::kAffine, kernels);
  EXPECT_EQ(bad_bias.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(bad_bias.status().message(), "bias of 2 values for 3 outputs");
  EXPECT_EQ(MakePotLinear(matrix, {}, ActivationMode::kAffine, nullptr)
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
  KernelTable unsupported = *kernels;
  unsupported.name = "abacus";
  unsupported.supported = [] { return false; };
  EXPECT_EQ(MakePotLinear(matrix, {}, ActivationMode::kAffine, &unsupported)
                .status()
                .code(),
            absl::StatusCode::kFailedPrecondition);
  const auto linear =
      MakePotLinear(matrix, {}, ActivationMode::kAffine, kernels).value();
  for (const int64_t rows : {int64_t{-1}, int64_t{1} << 40}) {
    EXPECT_EQ(linear->Forward(nullptr, rows, nullptr, nullptr).code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(linear->Forward(nullptr, 0, nullptr, nullptr).ok());
}

}  // namespace
}  // namespace pot
