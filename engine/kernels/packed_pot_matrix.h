// A PotMatrix in kernel order; built at load, never saved.
#ifndef POT_ENGINE_KERNELS_PACKED_POT_MATRIX_H_
#define POT_ENGINE_KERNELS_PACKED_POT_MATRIX_H_

#include <cstdint>

#include "absl/types/span.h"
#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/huge_page_buffer.h"
#include "engine/quant/pot_matrix.h"

namespace pot {

struct KernelTable;

// Outputs come in blocks of 64, inputs in steps of 8. A step of a block is 256
// bytes: byte 4*n + j of it holds, for output n of the block, input 8g + j in
// its low nibble and input 8g + 4 + j in its high nibble, so that a kernel
// reads the matrix as one sequential stream and has 4 consecutive inputs per
// 32-bit lane. Formats of more than 4 bits take one byte per code: byte
// 64*k + n of a block.
//
// Outputs are padded to a multiple of 64 and inputs to one of 8 with code 0;
// padded outputs are never stored, padded inputs meet activations of 0.
class PackedPotMatrix {
 public:
  static constexpr int64_t kBlockOutputs = 64;
  static constexpr int64_t kStepInputs = 8;
  static constexpr int64_t kStepBytes = 256;

  // `kernels` only sum levels; null: the reference does.
  explicit PackedPotMatrix(const PotMatrix& matrix,
                           const KernelTable* kernels = nullptr);

  const PotFormat& format() const { return *format_; }
  bool wide() const { return format_->bits > 4; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t num_blocks() const { return num_blocks_; }
  // cols rounded up to kStepInputs: the length of an activation row.
  int64_t padded_cols() const { return padded_cols_; }
  int64_t groups_per_row() const { return groups_per_row_; }
  // Inputs that share a scale; a multiple of 8 unless there is one group.
  int64_t group_size() const { return group_size_; }

  // Codes of one block, from input `k` (a multiple of 8) on.
  const uint8_t* BlockCodes(int64_t block, int64_t k) const;
  // Whether groups have powers of two: then a row has one scale and one sum of
  // levels times factors, that of its only "group" 0, and each group factors.
  bool power_of_two() const { return power_of_two_; }
  // Whether a row's sum of products, factors included, is exact in int32,
  // whatever the activations: sum |factor * level| * 254 < 2^31 for every row.
  // Formats of more than 4 bits never are.
  bool fits_int32() const { return fits_int32_; }
  // 64 factors of one group of one block.
  const int8_t* Factors(int64_t block, int64_t group) const;
  // 64 scales, and 64 sums of levels, of one group of one block. The level
  // sums carry the zero point: sum w (a - z) = sum w a - z * sum w. Formats of
  // at most 4 bits have LevelSums, |sum| <= 2^7 * 2^16, the others, and rows
  // that do not fit int32, WideLevelSums, |sum| <= 2^31 * 2^7 * 2^16.
  const float* Scales(int64_t block, int64_t group) const;
  // From the scales of one group to those of the next: 64, or 0 when a tensor
  // has one scale.
  int64_t scale_stride() const { return one_scale_ ? 0 : kBlockOutputs; }
  // Scales per row in memory.
  int64_t scales_per_row() const { return power_of_two_ ? 1 : groups_per_row_; }
  const int32_t* LevelSums(int64_t block, int64_t group) const;
  const int64_t* WideLevelSums(int64_t block, int64_t group) const;

  // Row `row` as floats: weights[cols], each scale * level. For embedding
  // look-ups.
  void DequantizeRow(int64_t row, absl::Span<float> weights) const;

  // Memory held by codes, scales and sums.
  int64_t resident_bytes() const;

 private:
  int64_t BlockBytes() const {
    return wide() ? padded_cols_ * kBlockOutputs
                  : padded_cols_ / kStepInputs * kStepBytes;
  }
  PotCode CodeAt(int64_t row, int64_t k) const;
  void PackRow(const PotMatrix& matrix, int64_t row, absl::Span<PotCode> codes);
  void SumLevels(const KernelTable& kernels);
  void SumWideLevels();
  void SumRows(const PotMatrix& matrix);

  const PotFormat* format_;
  int64_t rows_, cols_, num_blocks_, padded_cols_, groups_per_row_, group_size_;
  // A whole tensor's single scale is kept once, 64 times over.
  bool one_scale_;
  bool power_of_two_;
  bool fits_int32_ = true;
  HugePageBuffer<uint8_t> codes_;
  HugePageBuffer<float> scales_;
  HugePageBuffer<int32_t> level_sums_;
  AlignedBuffer<int64_t> wide_level_sums_;
  HugePageBuffer<int8_t> factors_;
};

}  // namespace pot

#endif  // POT_ENGINE_KERNELS_PACKED_POT_MATRIX_H_
