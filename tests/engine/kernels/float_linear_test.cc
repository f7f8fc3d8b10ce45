// Small shapes: the work inside oneDNN is not instrumented by sanitizers.
#include <cmath>
#include <cstdint>
#include <vector>

#include "engine/base/thread_pool.h"
#include "engine/kernels/linear.h"
#include "gtest/gtest.h"
#include "tests/engine/kernels/kernel_test_util.h"

namespace pot {
namespace {

TEST(FloatLinear, EqualsDoublePrecision) {
  ThreadPool pool(3);
  for (const auto& [outputs, inputs] : {std::pair<int64_t, int64_t>{1, 1},
                                        {3, 65},
                                        {64, 16},
                                        {65, 33},
                                        {130, 100}}) {
    for (const bool transposed : {false, true}) {
      for (const bool with_bias : {false, true}) {
        const std::vector<float> weights =
            RandomFloats(outputs * inputs, -1.0f, 1.0f, 1);
        const std::vector<float> bias =
            with_bias ? RandomFloats(outputs, -1.0f, 1.0f, 2)
                      : std::vector<float>();
        const auto linear =
            MakeFloatLinear(weights, outputs, inputs, transposed, bias).value();
        ASSERT_EQ(linear->outputs(), outputs);
        ASSERT_EQ(linear->inputs(), inputs);
        EXPECT_EQ(linear->resident_bytes(),
                  static_cast<int64_t>(4 * (weights.size() + bias.size())));
        const auto weight = [&, outputs = outputs, inputs = inputs](int64_t n,
                                                                    int64_t k) {
          return transposed ? weights[k * outputs + n]
                            : weights[n * inputs + k];
        };
        std::vector<float> row_of_weights(inputs);
        for (int64_t n = 0; n < outputs; ++n) {
          linear->WeightRow(n, absl::MakeSpan(row_of_weights));
          for (int64_t k = 0; k < inputs; ++k) {
            ASSERT_EQ(row_of_weights[k], weight(n, k));
          }
        }
        for (const int64_t rows : {1, 2, 5, 17}) {
          const std::vector<float> x =
              RandomFloats(rows * inputs, -1.0f, 1.0f, 3);
          // NaN must not leak from y into the result.
          std::vector<float> y(rows * outputs + 1, NAN);
          ASSERT_TRUE(linear->Forward(x.data(), rows, y.data(), &pool).ok());
          EXPECT_TRUE(std::isnan(y.back()));
          for (int64_t row = 0; row < rows; ++row) {
            for (int64_t n = 0; n < outputs; ++n) {
              double exact = with_bias ? bias[n] : 0.0;
              double magnitude = std::fabs(exact);
              for (int64_t k = 0; k < inputs; ++k) {
                const double term = double{weight(n, k)} * x[row * inputs + k];
                exact += term;
                magnitude += std::fabs(term);
              }
              // Any order of inputs + 1 products and sums.
              ASSERT_NEAR(y[row * outputs + n], exact,
                          (inputs + 2) * 0x1p-24 * magnitude)
                  << outputs << " x " << inputs << ", " << rows << " rows";
            }
          }
        }
      }
    }
  }
}

TEST(FloatLinear, RefusesBadArguments) {
  const std::vector<float> weights(6);
  for (const auto& [outputs, inputs] : {std::pair<int64_t, int64_t>{0, 6},
                                        {-2, -3},
                                        {6, 0},
                                        {2, 4},
                                        {int64_t{1} << 62, 4},
                                        {1, int64_t{1} << 62}}) {
    EXPECT_EQ(
        MakeFloatLinear(weights, outputs, inputs, false, {}).status().code(),
        absl::StatusCode::kInvalidArgument)
        << outputs << " x " << inputs;
  }
  EXPECT_EQ(MakeFloatLinear(weights, 2, 3, false, {1}).status().message(),
            "bias of 1 values for 2 outputs");
  const auto linear = MakeFloatLinear(weights, 2, 3, false, {}).value();
  EXPECT_EQ(linear->Forward(nullptr, -1, nullptr, nullptr).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(linear->Forward(nullptr, 0, nullptr, nullptr).ok());
}

}  // namespace
}  // namespace pot
