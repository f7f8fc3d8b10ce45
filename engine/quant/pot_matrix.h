// A quantized weight matrix as it lies on disk: immutable, and the same bytes
// on every CPU. PackedPotMatrix (engine/kernels) is its copy in kernel order.
#ifndef POT_ENGINE_QUANT_POT_MATRIX_H_
#define POT_ENGINE_QUANT_POT_MATRIX_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/quant/granularity.h"
#include "engine/quant/pot_format.h"

namespace pot {

// The sparse part of a dense-and-sparse matrix (SqueezeLLM, arXiv 2306.07629):
// scale * values[i] is added to the weight at row positions[i] / cols, column
// positions[i] % cols. A view.
struct OutlierView {
  float scale = 0.0f;
  absl::Span<const uint32_t> positions;  // strictly ascending
  absl::Span<const int16_t> values;

  int64_t size() const { return static_cast<int64_t>(positions.size()); }
};

// Limit of sum |value| over the outliers of a row: with |a - zero_point| <= 254
// the sum of products is at most 2 130 706 432 < 2^31 - 1, and so is every part
// of it: int32 never overflows, whatever the order.
inline constexpr int64_t kMaxOutlierSum = int64_t{1} << 23;

// Limit of a row's length. With |level| <= 128 and |activation| <= 127 a sum
// over 65 536 products is at most 1 065 353 216 < 2^31 - 1, and with levels
// stored plus 128, as some kernels do, 256 * 127 * 65 536 = 2 130 706 432
// still is: int32 never overflows, whatever the order. Wider formats sum in
// int64: 2^31 * 127 * 65 536 < 2^54.
inline constexpr int64_t kMaxMatrixCols = 65536;
inline constexpr int64_t kMaxMatrixRows = int64_t{1} << 24;
// Of outliers: with values of 16 bits a weight stays finite.
inline constexpr float kMaxOutlierScale = 0x1p80f;

// INVALID_ARGUMENT, naming the limit, without a format or outside the limits.
absl::Status CheckPotMatrixShape(const PotFormat* format, int64_t rows,
                                 int64_t cols, Granularity granularity);

// W[rows][cols], rows are outputs: W[n][k] = scale(n, k / group) *
// level(code(n, k)), plus outliers where the matrix has some.
class PotMatrix {
 public:
  // `codes`: rows * CodeBytesPerRow(bits, cols) bytes, each row a
  // little-endian bit stream: code k occupies bits [k*bits, (k+1)*bits), bit i
  // being bit i%8 of byte i/8; the padding of the last byte is zero.
  // `scales`: [rows][GroupsPerRow], a single one for kTensor, or [rows] where
  // groups have powers of two; finite, also times the format's top level, and
  // then 2^7. `factors`: those powers, as rows * CodeBytesPerRow(4, groups)
  // bytes of pot4 codes, laid out like `codes`; else empty.
  // Neither is copied: `owner` keeps both alive (it may be null when the caller
  // does). INVALID_ARGUMENT on any mismatch, or shapes outside the limits.
  static absl::StatusOr<PotMatrix> Create(
      const PotFormat* format, int64_t rows, int64_t cols,
      Granularity granularity, absl::Span<const uint8_t> codes,
      absl::Span<const float> scales, std::shared_ptr<const void> owner,
      absl::Span<const uint8_t> factors = {});

  // The same from one code per byte, packed and owned by the result.
  static absl::StatusOr<PotMatrix> FromCodes(const PotFormat* format,
                                             int64_t rows, int64_t cols,
                                             Granularity granularity,
                                             absl::Span<const PotCode> codes,
                                             std::vector<float> scales,
                                             std::vector<uint8_t> factors = {});

  // This matrix with `outliers` instead of its own. They are not copied:
  // `owner` keeps them alive (null: the caller does). INVALID_ARGUMENT where
  // positions do not ascend or lie outside the matrix, values are not as many,
  // a row's sum exceeds kMaxOutlierSum, or the scale is no normal number of at
  // most kMaxOutlierScale.
  absl::StatusOr<PotMatrix> WithOutliers(
      OutlierView outliers, std::shared_ptr<const void> owner) const;

  static int64_t CodeBytesPerRow(int bits, int64_t cols) {
    return (cols * bits + 7) / 8;
  }

  const PotFormat& format() const { return *format_; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  Granularity granularity() const { return granularity_; }
  int64_t groups_per_row() const { return groups_per_row_; }
  absl::Span<const uint8_t> packed_codes() const { return codes_; }
  absl::Span<const float> scales() const { return scales_; }
  absl::Span<const uint8_t> packed_factors() const { return factors_; }
  // Of scales and factors.
  int64_t scale_bytes() const {
    return static_cast<int64_t>(scales_.size() * sizeof(float) +
                                factors_.size());
  }

  const OutlierView& outliers() const { return outliers_; }
  int64_t outlier_bytes() const;
  // Of all: what the matrix takes in a file.
  int64_t stored_bytes() const {
    return static_cast<int64_t>(codes_.size()) + scale_bytes() +
           outlier_bytes();
  }

  // What a group's scale is of that of its row: 1 but for powers of two, which
  // are in [-128, 64].
  int32_t Factor(int64_t row, int64_t group) const;
  float Scale(int64_t row, int64_t group) const;

  // codes[cols] and weights[cols] of one row. A weight is scale * level, plus
  // scale * value of its outlier, each operation rounded to float.
  void UnpackRow(int64_t row, absl::Span<PotCode> codes) const;
  void DequantizeRow(int64_t row, absl::Span<float> weights) const;

 private:
  PotMatrix() = default;

  const PotFormat* format_ = nullptr;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
  Granularity granularity_;
  int64_t groups_per_row_ = 0;
  absl::Span<const uint8_t> codes_;
  absl::Span<const float> scales_;
  absl::Span<const uint8_t> factors_;
  std::shared_ptr<const void> owner_;
  OutlierView outliers_;
  std::shared_ptr<const void> outlier_owner_;
};

// weights[cols] of row `row` += scale * value of each of its outliers.
void AddRowOutliers(const OutlierView& outliers, int64_t row,
                    absl::Span<float> weights);

}  // namespace pot

#endif  // POT_ENGINE_QUANT_POT_MATRIX_H_
