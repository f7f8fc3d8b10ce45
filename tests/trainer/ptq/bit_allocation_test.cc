#include "trainer/ptq/bit_allocation.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace pot {
namespace {

using Matrices = std::vector<std::vector<FormatCost>>;

double TotalBits(const Matrices& matrices, const std::vector<size_t>& chosen) {
  double bits = 0;
  for (size_t m = 0; m < matrices.size(); ++m) {
    bits += matrices[m][chosen[m]].bits;
  }
  return bits;
}

double TotalLoss(const Matrices& matrices, const std::vector<size_t>& chosen) {
  double loss = 0;
  for (size_t m = 0; m < matrices.size(); ++m) {
    loss += matrices[m][chosen[m]].loss;
  }
  return loss;
}

// The least loss of all choices with at most `bits`, by trying all.
double LeastLoss(const Matrices& matrices, double bits) {
  std::vector<size_t> chosen(matrices.size(), 0);
  double least = std::numeric_limits<double>::infinity();
  while (true) {
    if (TotalBits(matrices, chosen) <= bits) {
      least = std::min(least, TotalLoss(matrices, chosen));
    }
    size_t m = 0;
    while (m < matrices.size() && ++chosen[m] == matrices[m].size()) {
      chosen[m++] = 0;
    }
    if (m == matrices.size()) return least;
  }
}

// Losses that fall with the bits, but not always.
Matrices MakeMatrices(uint64_t seed) {
  std::mt19937_64 random(seed);
  Matrices matrices(5);
  for (auto& formats : matrices) {
    const double size = 1 + random() % 100;
    for (int bits = 2; bits <= 5; ++bits) {
      formats.push_back(
          {size * bits, static_cast<double>(random() % 1000) / (bits * bits)});
    }
  }
  return matrices;
}

TEST(BitAllocationTest, IsTheBestChoiceForItsOwnBits) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Matrices matrices = MakeMatrices(seed);
    const double least = 2, most = 5;
    double size = 0;
    for (const auto& formats : matrices) size += formats[0].bits / least;
    for (double bits = least; bits <= most; bits += 0.25) {
      const auto chosen = AllocateBits(matrices, bits * size);
      ASSERT_TRUE(chosen.ok()) << chosen.status();
      const double used = TotalBits(matrices, *chosen);
      EXPECT_LE(used, bits * size);
      // Up to the first step that did not fit, the choice is the best for its
      // bits; what is bought afterwards only makes it better.
      double largest_step = 0;
      for (const auto& formats : matrices) {
        largest_step =
            std::max(largest_step, formats.back().bits - formats[0].bits);
      }
      EXPECT_LE(
          TotalLoss(matrices, *chosen),
          LeastLoss(matrices, std::max(least * size, used - largest_step)) +
              1e-9)
          << "seed " << seed << ", " << bits << " bits";
    }
  }
}

TEST(BitAllocationTest, EveryBitIsTheBestOfEachMatrix) {
  const Matrices matrices = MakeMatrices(7);
  const auto chosen = AllocateBits(matrices, 1e9);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  for (size_t m = 0; m < matrices.size(); ++m) {
    for (const FormatCost& format : matrices[m]) {
      EXPECT_LE(matrices[m][(*chosen)[m]].loss, format.loss);
    }
  }
}

TEST(BitAllocationTest, BitsGoWhereTheySaveMost) {
  // Of one size; the second gains ten times as much.
  const Matrices matrices = {{{20, 1.0}, {30, 0.9}}, {{20, 5.0}, {30, 4.0}}};
  EXPECT_EQ((std::vector<size_t>{0, 1}), *AllocateBits(matrices, 50));
  EXPECT_EQ((std::vector<size_t>{0, 0}), *AllocateBits(matrices, 49));
  EXPECT_EQ((std::vector<size_t>{1, 1}), *AllocateBits(matrices, 60));
  // A format that costs more bits and more loss is never taken.
  const Matrices worse = {{{20, 1.0}, {30, 2.0}, {40, 0.5}}};
  EXPECT_EQ((std::vector<size_t>{0}), *AllocateBits(worse, 39));
  EXPECT_EQ((std::vector<size_t>{2}), *AllocateBits(worse, 40));
}

TEST(BitAllocationTest, RefusesABudgetBelowTheFewestBits) {
  const auto chosen = AllocateBits(Matrices{{{20, 1.0}}, {{10, 1.0}}}, 29);
  EXPECT_EQ(absl::StatusCode::kInvalidArgument, chosen.status().code());
  EXPECT_NE(std::string::npos, chosen.status().message().find("30"))
      << chosen.status();
}

}  // namespace
}  // namespace pot
