#include "engine/kernels/packed_pot_matrix.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "engine/kernels/kernel_table.h"

namespace pot {
namespace {

int64_t DivideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Eight 4-bit codes c0, c1, .. from the lowest nibble on, as one step holds
// them: byte j is c(j) in its low and c(4 + j) in its high nibble.
uint32_t InterleaveNibbles(uint32_t codes) {
  uint64_t x = (uint64_t{codes} | uint64_t{codes} << 16) & 0x0000ffff0000ffff;
  x = (x | x << 8) & 0x00ff00ff00ff00ff;
  x = (x | x << 4) & 0x0f0f0f0f0f0f0f0f;
  return static_cast<uint32_t>(x) | static_cast<uint32_t>(x >> 32) << 4;
}

}  // namespace

PackedPotMatrix::PackedPotMatrix(const PotMatrix& matrix,
                                 const KernelTable* kernels)
    : format_(&matrix.format()),
      rows_(matrix.rows()),
      cols_(matrix.cols()),
      num_blocks_(DivideUp(rows_, kBlockOutputs)),
      padded_cols_(DivideUp(cols_, kStepInputs) * kStepInputs),
      groups_per_row_(matrix.groups_per_row()),
      group_size_(matrix.granularity().GroupSize(cols_)),
      one_scale_(matrix.granularity().kind == Granularity::Kind::kTensor),
      power_of_two_(matrix.granularity().power_of_two) {
  const int64_t vectors = num_blocks_ * scales_per_row();
  codes_ = HugePageBuffer<uint8_t>(num_blocks_ * BlockBytes());
  scales_ = HugePageBuffer<float>((one_scale_ ? 1 : vectors) * kBlockOutputs,
                                  HugePageStream::kScales);
  if (one_scale_) {
    std::fill_n(scales_.data(), kBlockOutputs, matrix.Scale(0, 0));
  }
  std::vector<PotCode> codes(static_cast<size_t>(padded_cols_), 0);
  for (int64_t row = 0; row < rows_; ++row) {
    PackRow(matrix, row, absl::MakeSpan(codes));
    for (int64_t group = 0; group < scales_per_row() && !one_scale_; ++group) {
      const int64_t vector = row / kBlockOutputs * scales_per_row() + group;
      scales_.data()[vector * kBlockOutputs + row % kBlockOutputs] =
          power_of_two_ ? matrix.scales()[row] : matrix.Scale(row, group);
    }
  }
  if (power_of_two_) {
    SumRows(matrix);
  } else if (wide()) {
    wide_level_sums_ = AlignedBuffer<int64_t>(vectors * kBlockOutputs);
    SumWideLevels();
  } else {
    level_sums_ = HugePageBuffer<int32_t>(vectors * kBlockOutputs,
                                          HugePageStream::kScales);
    SumLevels(kernels == nullptr ? *AllKernelTables()[0] : *kernels);
  }
}

// Factors, and what SumLevels and SumWideLevels find, for whole rows.
void PackedPotMatrix::SumRows(const PotMatrix& matrix) {
  factors_ = HugePageBuffer<int8_t>(
      num_blocks_ * groups_per_row_ * kBlockOutputs, HugePageStream::kScales);
  wide_level_sums_ = AlignedBuffer<int64_t>(num_blocks_ * kBlockOutputs);
  fits_int32_ = !wide();
  std::vector<PotCode> codes(static_cast<size_t>(cols_));
  for (int64_t row = 0; row < rows_; ++row) {
    matrix.UnpackRow(row, absl::MakeSpan(codes));
    int64_t sum = 0, magnitude = 0;
    for (int64_t group = 0; group < groups_per_row_; ++group) {
      const int64_t factor = matrix.Factor(row, group);
      const int64_t vector = row / kBlockOutputs * groups_per_row_ + group;
      factors_.data()[vector * kBlockOutputs + row % kBlockOutputs] =
          static_cast<int8_t>(factor);
      const int64_t end = std::min(cols_, (group + 1) * group_size_);
      for (int64_t k = group * group_size_; k < end; ++k) {
        const int64_t term = factor * format_->levels[codes[k]];
        sum += term;
        magnitude += std::abs(term);
      }
    }
    wide_level_sums_[row] = sum;
    // |a - zero_point| <= 254. At most 2^31 * 2^7 * 2^16: no overflow.
    constexpr int64_t kLimit = std::numeric_limits<int32_t>::max() / 254;
    if (magnitude > kLimit) fits_int32_ = false;
  }
  if (!fits_int32_) return;
  level_sums_ =
      HugePageBuffer<int32_t>(wide_level_sums_.size(), HugePageStream::kScales);
  std::copy_n(wide_level_sums_.data(), wide_level_sums_.size(),
              level_sums_.data());
  wide_level_sums_ = AlignedBuffer<int64_t>();
}

// codes[padded_cols]: scratch, zero beyond cols.
void PackedPotMatrix::PackRow(const PotMatrix& matrix, int64_t row,
                              absl::Span<PotCode> codes) {
  const int64_t n = row % kBlockOutputs;
  uint8_t* out = codes_.data() + row / kBlockOutputs * BlockBytes();
  int64_t k = 0;
  if (format_->bits == 4) {
    // Whole steps straight from the canonical row.
    const uint8_t* in = matrix.packed_codes().data() +
                        row * PotMatrix::CodeBytesPerRow(4, cols_);
    for (; k + kStepInputs <= cols_; k += kStepInputs, out += kStepBytes) {
      uint32_t step;
      std::memcpy(&step, in + k / 2, 4);
      step = InterleaveNibbles(step);
      std::memcpy(out + 4 * n, &step, 4);
    }
    if (k == cols_) return;
  }
  matrix.UnpackRow(row, codes.subspan(0, cols_));
  if (wide()) {
    for (; k < cols_; ++k) out[kBlockOutputs * k + n] = codes[k];
    return;
  }
  for (; k < padded_cols_; k += kStepInputs, out += kStepBytes) {
    for (int64_t j = 0; j < 4; ++j) {
      out[4 * n + j] =
          static_cast<uint8_t>(codes[k + j] | codes[k + 4 + j] << 4);
    }
  }
}

// As products with activations of 1.
void PackedPotMatrix::SumLevels(const KernelTable& kernels) {
  AlignedBuffer<int8_t> ones(padded_cols_);
  std::fill_n(ones.data(), cols_, int8_t{1});
  for (int64_t block = 0; block < num_blocks_; ++block) {
    for (int64_t group = 0; group < groups_per_row_; ++group) {
      const int64_t k = group * group_size_;
      const int64_t length = std::min(group_size_, cols_ - k);
      kernels.pot_dot(BlockCodes(block, k), *format_, ones.data() + k,
                      padded_cols_, 1, DivideUp(length, kStepInputs),
                      level_sums_.data() +
                          (block * groups_per_row_ + group) * kBlockOutputs);
    }
  }
}

void PackedPotMatrix::SumWideLevels() {
  const std::vector<int8_t> ones(static_cast<size_t>(cols_), 1);
  for (int64_t block = 0; block < num_blocks_; ++block) {
    for (int64_t group = 0; group < groups_per_row_; ++group) {
      const int64_t k = group * group_size_;
      WidePotDot(BlockCodes(block, k), *format_, ones.data(),
                 std::min(group_size_, cols_ - k),
                 wide_level_sums_.data() +
                     (block * groups_per_row_ + group) * kBlockOutputs);
    }
  }
}

const uint8_t* PackedPotMatrix::BlockCodes(int64_t block, int64_t k) const {
  const int64_t offset =
      wide() ? k * kBlockOutputs : k / kStepInputs * kStepBytes;
  return codes_.data() + block * BlockBytes() + offset;
}

const int8_t* PackedPotMatrix::Factors(int64_t block, int64_t group) const {
  return factors_.data() + (block * groups_per_row_ + group) * kBlockOutputs;
}

const float* PackedPotMatrix::Scales(int64_t block, int64_t group) const {
  if (one_scale_) return scales_.data();
  return scales_.data() + (block * scales_per_row() + group) * kBlockOutputs;
}

const int32_t* PackedPotMatrix::LevelSums(int64_t block, int64_t group) const {
  return level_sums_.data() +
         (block * scales_per_row() + group) * kBlockOutputs;
}

const int64_t* PackedPotMatrix::WideLevelSums(int64_t block,
                                              int64_t group) const {
  return wide_level_sums_.data() +
         (block * scales_per_row() + group) * kBlockOutputs;
}

PotCode PackedPotMatrix::CodeAt(int64_t row, int64_t k) const {
  const int64_t n = row % kBlockOutputs;
  const uint8_t* step =
      BlockCodes(row / kBlockOutputs, k / kStepInputs * kStepInputs);
  const int64_t i = k % kStepInputs;
  if (wide()) return step[kBlockOutputs * i + n];
  const uint8_t byte = step[4 * n + i % 4];
  return i < 4 ? byte & 15 : byte >> 4;
}

void PackedPotMatrix::DequantizeRow(int64_t row,
                                    absl::Span<float> weights) const {
  const int64_t n = row % kBlockOutputs;
  for (int64_t group = 0; group < groups_per_row_; ++group) {
    const int64_t block = row / kBlockOutputs;
    const float scale =
        power_of_two_
            ? Scales(block, 0)[n] * static_cast<float>(Factors(block, group)[n])
            : Scales(block, group)[n];
    const int64_t end = std::min(cols_, (group + 1) * group_size_);
    for (int64_t k = group * group_size_; k < end; ++k) {
      weights[k] = scale * static_cast<float>(format_->levels[CodeAt(row, k)]);
    }
  }
}

int64_t PackedPotMatrix::resident_bytes() const {
  return static_cast<int64_t>(codes_.size() + scales_.size() * sizeof(float) +
                              level_sums_.size() * sizeof(int32_t) +
                              wide_level_sums_.size() * sizeof(int64_t) +
                              factors_.size());
}

}  // namespace pot
