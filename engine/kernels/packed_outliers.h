// The outliers of a PotMatrix in kernel order; built at load, never saved.
#ifndef POT_ENGINE_KERNELS_PACKED_OUTLIERS_H_
#define POT_ENGINE_KERNELS_PACKED_OUTLIERS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/kernels/huge_page_buffer.h"
#include "engine/kernels/pot_outliers.h"
#include "engine/quant/pot_matrix.h"

namespace pot {

// Those of each block of 64 outputs by input, then by output: sums of
// neighbours then seldom wait for each other, and activations are read
// forwards.
class PackedOutliers {
 public:
  explicit PackedOutliers(const PotMatrix& matrix);

  bool empty() const { return outliers_.size() == 0; }
  // Of blocks [begin, end), which must be of one span.
  PotOutlierBlock Blocks(int64_t begin, int64_t end) const;

  // weights[cols] of row `row` += its outliers, as PotMatrix::DequantizeRow
  // does.
  void AddToRow(int64_t row, absl::Span<float> weights) const;

  int64_t resident_bytes() const {
    return static_cast<int64_t>(outliers_.size() * sizeof(PotOutlier) +
                                starts_.size() * sizeof(int64_t));
  }

 private:
  float scale_;
  int64_t rows_;
  HugePageBuffer<PotOutlier> outliers_;
  std::vector<int64_t> starts_;  // of each block, and the end
};

}  // namespace pot

#endif  // POT_ENGINE_KERNELS_PACKED_OUTLIERS_H_
