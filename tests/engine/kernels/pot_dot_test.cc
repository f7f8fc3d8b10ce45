// Every kernel against the reference, and the reference against int64.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/kernel_table.h"
#include "engine/kernels/packed_pot_matrix.h"
#include "gtest/gtest.h"
#include "tests/engine/kernels/kernel_test_util.h"

namespace pot {
namespace {

std::vector<const PotFormat*> NarrowFormats() {
  std::vector<const PotFormat*> formats;
  for (const PotFormat& format : AllPotFormats()) {
    if (format.bits <= 4) formats.push_back(&format);
  }
  return formats;
}

// One block's codes and the activations of eight rows.
struct Problem {
  int64_t steps;
  int64_t stride;
  AlignedBuffer<uint8_t> codes;
  std::vector<int8_t> a;

  explicit Problem(int64_t num_steps)
      : steps(num_steps),
        // Rows that do not begin on any boundary.
        stride(8 * num_steps + 5),
        codes(256 * num_steps),
        a(kMaxDotRows * stride) {}

  std::vector<int32_t> Run(const KernelTable& table, const PotFormat& format,
                           int num_rows) const {
    // A sentinel beyond the end, and nothing to build upon before.
    std::vector<int32_t> acc(64 * num_rows + 1, 0x5a5a5a5a);
    table.pot_dot(codes.data(), format, a.data(), stride, num_rows, steps,
                  acc.data());
    EXPECT_EQ(acc.back(), 0x5a5a5a5a);
    acc.pop_back();
    return acc;
  }
};

Problem RandomProblem(const PotFormat& format, int64_t steps, uint32_t seed) {
  std::mt19937 random(seed);
  Problem problem(steps);
  const unsigned codes = format.num_codes();
  for (size_t i = 0; i < problem.codes.size(); ++i) {
    problem.codes[i] =
        static_cast<uint8_t>(random() % codes | (random() % codes) << 4);
  }
  for (int8_t& a : problem.a) a = static_cast<int8_t>(random() % 255) - 127;
  return problem;
}

// sum of level * a in int64, straight from the layout's definition.
int64_t ExactDot(const Problem& problem, const PotFormat& format, int row,
                 int n) {
  int64_t sum = 0;
  for (int64_t k = 0; k < 8 * problem.steps; ++k) {
    const uint8_t byte = problem.codes[k / 8 * 256 + 4 * n + k % 4];
    const int code = k % 8 < 4 ? byte & 15 : byte >> 4;
    sum += int64_t{format.levels[code]} * problem.a[row * problem.stride + k];
  }
  return sum;
}

class PotDotTest : public KernelTableTest {};
INSTANTIATE_TEST_SUITE_P(Tables, PotDotTest, EveryTable(), TableName);

TEST_P(PotDotTest, EqualsExactIntegersOnRandomInput) {
  for (const PotFormat* format : NarrowFormats()) {
    for (const int64_t steps : {1, 2, 3, 7, 8, 9, 16, 31, 96, 100}) {
      const Problem problem = RandomProblem(*format, steps, 100 + steps);
      for (int rows = 1; rows <= kMaxDotRows; ++rows) {
        const std::vector<int32_t> acc = problem.Run(table(), *format, rows);
        for (int row = 0; row < rows; ++row) {
          for (int n = 0; n < 64; ++n) {
            ASSERT_EQ(acc[64 * row + n], ExactDot(problem, *format, row, n))
                << std::string(format->name) << ", steps " << steps << ", rows "
                << rows << ", row " << row << ", output " << n;
          }
        }
      }
    }
  }
}

TEST_P(PotDotTest, EqualsReferenceAtEveryCodeAndExtremeActivation) {
  for (const PotFormat* format : NarrowFormats()) {
    for (int low = 0; low < format->num_codes(); ++low) {
      for (int high = 0; high < format->num_codes(); ++high) {
        Problem problem(3);
        std::fill_n(problem.codes.data(), problem.codes.size(),
                    static_cast<uint8_t>(low | high << 4));
        for (const int a : {-127, 127, -1, 1, 0}) {
          std::fill(problem.a.begin(), problem.a.end(), static_cast<int8_t>(a));
          for (const int rows : {1, 2, 5}) {
            ASSERT_EQ(problem.Run(table(), *format, rows),
                      problem.Run(reference(), *format, rows))
                << std::string(format->name) << " codes " << low << ", " << high
                << " activation " << a;
          }
        }
      }
    }
  }
}

// Both ends of the int32 range at the longest row, where an accumulator that
// is one bit short, or a biased sum that saturates, would show.
TEST_P(PotDotTest, DoesNotOverflowAtTheLongestRow) {
  constexpr int64_t kSteps = kMaxMatrixCols / 8;
  for (const PotFormat* format : NarrowFormats()) {
    const auto levels =
        absl::MakeSpan(format->levels.data(), format->num_codes());
    const int top = static_cast<int>(
        std::max_element(levels.begin(), levels.end()) - levels.begin());
    const int bottom = static_cast<int>(
        std::min_element(levels.begin(), levels.end()) - levels.begin());
    for (const int code : {top, bottom}) {
      Problem problem(kSteps);
      std::fill_n(problem.codes.data(), problem.codes.size(),
                  static_cast<uint8_t>(code | code << 4));
      for (const int a : {-127, 127}) {
        std::fill(problem.a.begin(), problem.a.end(), static_cast<int8_t>(a));
        const int64_t exact = int64_t{levels[code]} * a * kMaxMatrixCols;
        ASSERT_LE(std::abs(exact), std::numeric_limits<int32_t>::max());
        for (const int rows : {1, 3}) {
          for (const int32_t sum : problem.Run(table(), *format, rows)) {
            ASSERT_EQ(sum, exact) << std::string(format->name);
          }
        }
      }
    }
  }
}

// Partial sums that swing between the extremes instead of growing steadily.
TEST_P(PotDotTest, EqualsReferenceWithAlternatingExtremes) {
  const PotFormat* format = FindPotFormat("pot4-strict").value();
  Problem problem = RandomProblem(*format, kMaxMatrixCols / 8, 5);
  for (size_t i = 0; i < problem.codes.size(); ++i) {
    problem.codes[i] = i / 256 % 2 == 0 ? 0x77 : 0xff;  // +128, -128
  }
  for (size_t i = 0; i < problem.a.size(); ++i) {
    problem.a[i] = i % 2 == 0 ? 127 : -127;
  }
  EXPECT_EQ(problem.Run(table(), *format, 2),
            problem.Run(reference(), *format, 2));
}

TEST(WidePotDot, EqualsExactIntegers) {
  for (const PotFormat& format : AllPotFormats()) {
    for (const int64_t count : {1, 7, 64, 100}) {
      std::mt19937 random(9);
      std::vector<uint8_t> codes(64 * count);
      for (uint8_t& code : codes) {
        code = static_cast<uint8_t>(random() % format.num_codes());
      }
      std::vector<int8_t> a(count);
      for (int8_t& x : a) x = static_cast<int8_t>(random() % 255) - 127;
      std::vector<int64_t> acc(64, -1);
      WidePotDot(codes.data(), format, a.data(), count, acc.data());
      for (int n = 0; n < 64; ++n) {
        int64_t exact = 0;
        for (int64_t k = 0; k < count; ++k) {
          exact += int64_t{format.levels[codes[64 * k + n]]} * a[k];
        }
        ASSERT_EQ(acc[n], exact) << std::string(format.name);
      }
    }
  }
}

TEST(WidePotDot, HoldsTheLargestSum) {
  const PotFormat* format = FindPotFormat("pot6").value();
  constexpr int kMinusTop = 32;  // -2^31
  ASSERT_EQ(format->levels[kMinusTop], std::numeric_limits<int32_t>::min());
  const std::vector<uint8_t> codes(64 * kMaxMatrixCols, kMinusTop);
  const std::vector<int8_t> a(kMaxMatrixCols, 127);
  std::vector<int64_t> acc(64);
  WidePotDot(codes.data(), *format, a.data(), kMaxMatrixCols, acc.data());
  EXPECT_THAT(acc, testing::Each(-(int64_t{127} << 47)));
}

}  // namespace
}  // namespace pot
