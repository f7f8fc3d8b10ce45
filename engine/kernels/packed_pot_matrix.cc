#include "engine/kernels/packed_pot_matrix.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace pot {
namespace {

int64_t DivideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

PackedPotMatrix::PackedPotMatrix(const PotMatrix& matrix)
    : format_(&matrix.format()),
      rows_(matrix.rows()),
      cols_(matrix.cols()),
      num_blocks_(DivideUp(rows_, kBlockOutputs)),
      padded_cols_(DivideUp(cols_, kStepInputs) * kStepInputs),
      groups_per_row_(matrix.groups_per_row()),
      group_size_(matrix.granularity().GroupSize(cols_)),
      one_scale_(matrix.granularity().kind == Granularity::Kind::kTensor) {
  const int64_t vectors = num_blocks_ * groups_per_row_;
  codes_ = AlignedBuffer<uint8_t>(num_blocks_ * BlockBytes());
  scales_ = AlignedBuffer<float>((one_scale_ ? 1 : vectors) * kBlockOutputs);
  if (wide()) {
    wide_level_sums_ = AlignedBuffer<int64_t>(vectors * kBlockOutputs);
  } else {
    level_sums_ = AlignedBuffer<int32_t>(vectors * kBlockOutputs);
  }
  if (one_scale_) {
    std::fill_n(scales_.data(), kBlockOutputs, matrix.Scale(0, 0));
  }
  std::vector<PotCode> codes(static_cast<size_t>(padded_cols_), 0);
  for (int64_t row = 0; row < rows_; ++row) {
    matrix.UnpackRow(row, absl::MakeSpan(codes.data(), cols_));
    PackRow(matrix, row, codes);
  }
}

// codes[padded_cols], zero beyond cols.
void PackedPotMatrix::PackRow(const PotMatrix& matrix, int64_t row,
                              absl::Span<const PotCode> codes) {
  const int64_t block = row / kBlockOutputs;
  const int64_t n = row % kBlockOutputs;
  uint8_t* out = codes_.data() + block * BlockBytes();
  if (wide()) {
    for (int64_t k = 0; k < cols_; ++k) out[kBlockOutputs * k + n] = codes[k];
  } else {
    for (int64_t k = 0; k < padded_cols_; k += kStepInputs, out += kStepBytes) {
      uint32_t low, high;
      std::memcpy(&low, &codes[k], 4);
      std::memcpy(&high, &codes[k + 4], 4);
      const uint32_t bytes = low | high << 4;
      std::memcpy(out + 4 * n, &bytes, 4);
    }
  }
  for (int64_t group = 0; group < groups_per_row_; ++group) {
    const int64_t index = (block * groups_per_row_ + group) * kBlockOutputs + n;
    if (!one_scale_) scales_[index] = matrix.Scale(row, group);
    int64_t sum = 0;
    const int64_t end = std::min(cols_, (group + 1) * group_size_);
    for (int64_t k = group * group_size_; k < end; ++k) {
      sum += format_->levels[codes[k]];
    }
    if (wide()) {
      wide_level_sums_[index] = sum;
    } else {
      level_sums_[index] = static_cast<int32_t>(sum);
    }
  }
}

const uint8_t* PackedPotMatrix::BlockCodes(int64_t block, int64_t k) const {
  const int64_t offset =
      wide() ? k * kBlockOutputs : k / kStepInputs * kStepBytes;
  return codes_.data() + block * BlockBytes() + offset;
}

const float* PackedPotMatrix::Scales(int64_t block, int64_t group) const {
  if (one_scale_) return scales_.data();
  return scales_.data() + (block * groups_per_row_ + group) * kBlockOutputs;
}

const int32_t* PackedPotMatrix::LevelSums(int64_t block, int64_t group) const {
  return level_sums_.data() + (block * groups_per_row_ + group) * kBlockOutputs;
}

const int64_t* PackedPotMatrix::WideLevelSums(int64_t block,
                                              int64_t group) const {
  return wide_level_sums_.data() +
         (block * groups_per_row_ + group) * kBlockOutputs;
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
    const float scale = Scales(row / kBlockOutputs, group)[n];
    const int64_t end = std::min(cols_, (group + 1) * group_size_);
    for (int64_t k = group * group_size_; k < end; ++k) {
      weights[k] = scale * static_cast<float>(format_->levels[CodeAt(row, k)]);
    }
  }
}

int64_t PackedPotMatrix::resident_bytes() const {
  return static_cast<int64_t>(codes_.size() + scales_.size() * sizeof(float) +
                              level_sums_.size() * sizeof(int32_t) +
                              wide_level_sums_.size() * sizeof(int64_t));
}

}  // namespace pot
