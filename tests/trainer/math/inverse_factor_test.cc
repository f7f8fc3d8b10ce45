#include "trainer/math/inverse_factor.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

// Positive definite, its condition below 100.
std::vector<double> Matrix(int64_t n) {
  const int64_t columns = n + 50;
  std::vector<double> x(n * columns);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = std::sin(static_cast<double>(i * i % 10007));
  }
  std::vector<double> a(n * n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t k = 0; k < columns; ++k) {
        a[i * n + j] += x[i * columns + k] * x[j * columns + k];
      }
      a[i * n + j] /= static_cast<double>(columns);
    }
    a[i * n + i] += 0.1;
  }
  return a;
}

class FactorInverseTest : public testing::TestWithParam<int64_t> {};

TEST_P(FactorInverseTest, FactorsTheInverse) {
  const int64_t n = GetParam();
  const std::vector<double> a = Matrix(n);
  std::vector<double> u = a;
  ASSERT_TRUE(FactorInverse(n, &u).ok());
  // A U^T U is the identity, but for rounding: 100 * n * 2^-53 < 4e-12.
  std::vector<double> inverse(n * n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t k = 0; k <= std::min(i, j); ++k) {
        inverse[i * n + j] += u[k * n + i] * u[k * n + j];
      }
      if (i > j) {
        ASSERT_EQ(u[i * n + j], 0);
      }
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < n; ++k) sum += a[i * n + k] * inverse[k * n + j];
      ASSERT_NEAR(sum, i == j ? 1 : 0, 1e-10) << i << ", " << j;
    }
  }
}

TEST_P(FactorInverseTest, NamesThePivotThatIsNotPositive) {
  const int64_t n = GetParam();
  std::vector<double> a = Matrix(n);
  a[0] = -1;  // the last pivot: the matrix is factored from its end
  const absl::Status status = FactorInverse(n, &a);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(),
              testing::HasSubstr(absl::StrCat("not positive definite: pivot ",
                                              n - 1, " of ", n, " is ")));
}

// Parts of strips, of groups of rows, of blocks, and more than are added up at
// a time.
INSTANTIATE_TEST_SUITE_P(Sizes, FactorInverseTest,
                         testing::Values(1, 2, 7, 16, 63, 64, 65, 150, 343));

}  // namespace
}  // namespace pot
