#ifndef POT_TESTS_ENGINE_KERNELS_KERNEL_TEST_UTIL_H_
#define POT_TESTS_ENGINE_KERNELS_KERNEL_TEST_UTIL_H_

#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "engine/kernels/kernel_table.h"
#include "engine/quant/pot_matrix.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {

// Runs a suite once for every table; those that the CPU lacks are skipped by
// name.
class KernelTableTest : public testing::TestWithParam<const KernelTable*> {
 protected:
  void SetUp() override {
    if (!GetParam()->supported()) {
      GTEST_SKIP() << "NOT TESTED: this CPU cannot run the kernels \""
                   << std::string(GetParam()->name) << "\"";
    }
  }
  const KernelTable& table() const { return *GetParam(); }
  static const KernelTable& reference() { return *AllKernelTables()[0]; }
};

inline auto EveryTable() {
  return testing::ValuesIn(std::vector<const KernelTable*>(
      AllKernelTables().begin(), AllKernelTables().end()));
}

inline std::string TableName(
    const testing::TestParamInfo<const KernelTable*>& info) {
  return std::string(info.param->name);
}

inline std::vector<float> RandomFloats(size_t count, float low, float high,
                                       uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (float& value : values) {
    value = low + (high - low) * static_cast<float>(random() >> 8) * 0x1p-24f;
  }
  return values;
}

// Random codes under scales of either sign, about 0.01.
inline PotMatrix RandomMatrix(const PotFormat& format, int64_t rows,
                              int64_t cols, Granularity granularity,
                              uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<PotCode> codes(static_cast<size_t>(rows * cols));
  for (PotCode& code : codes) {
    code = static_cast<PotCode>(random() % format.num_codes());
  }
  const int64_t groups = granularity.GroupsPerRow(cols);
  const int64_t num_scales = granularity.kind == Granularity::Kind::kTensor ? 1
                             : granularity.power_of_two ? rows
                                                        : rows * groups;
  std::vector<uint8_t> factors;
  if (granularity.power_of_two) {
    factors.resize(rows * PotMatrix::CodeBytesPerRow(4, groups));
    const int64_t row_bytes = PotMatrix::CodeBytesPerRow(4, groups);
    for (size_t i = 0; i < factors.size(); ++i) {
      // The padding of a row's last byte is zero.
      const bool half = groups % 2 != 0 && i % row_bytes == row_bytes - 1;
      factors[i] = static_cast<uint8_t>(random() & (half ? 0x0f : 0xff));
    }
  }
  std::vector<float> scales = RandomFloats(num_scales, 0.005f, 0.02f, seed + 1);
  for (size_t i = 0; i < scales.size(); i += 3) scales[i] = -scales[i];
  return PotMatrix::FromCodes(&format, rows, cols, granularity, codes,
                              std::move(scales), std::move(factors))
      .value();
}

// `matrix` with `count` outliers of any value, at places of its first rows most
// of all: by twos and threes of an output, and outputs without.
inline PotMatrix WithRandomOutliers(const PotMatrix& matrix, int64_t count,
                                    uint32_t seed) {
  struct Owner {
    std::vector<uint32_t> positions;
    std::vector<int16_t> values;
  };
  auto owner = std::make_shared<Owner>();
  std::mt19937 random(seed);
  std::set<uint32_t> positions;
  while (static_cast<int64_t>(positions.size()) < count) {
    const int64_t size = matrix.rows() * matrix.cols();
    positions.insert(random() % (random() % 2 == 0 ? size : (size + 3) / 4));
  }
  for (const uint32_t position : positions) {
    owner->positions.push_back(position);
    owner->values.push_back(static_cast<int16_t>(random()));
  }
  const OutlierView view{1.5e-5f, owner->positions, owner->values};
  return matrix.WithOutliers(view, owner).value();
}

inline std::vector<Granularity> AllGranularities() {
  using Kind = Granularity::Kind;
  return {{Kind::kTensor, 0},
          {Kind::kRow, 0},
          {Kind::kGroup, 32},
          {Kind::kGroup, 64},
          {Kind::kGroup, 128}};
}

inline std::vector<uint32_t> BitsOf(const std::vector<float>& values) {
  std::vector<uint32_t> bits(values.size());
  if (!values.empty()) {
    std::memcpy(bits.data(), values.data(), values.size() * sizeof(float));
  }
  return bits;
}

}  // namespace pot

#endif  // POT_TESTS_ENGINE_KERNELS_KERNEL_TEST_UTIL_H_
