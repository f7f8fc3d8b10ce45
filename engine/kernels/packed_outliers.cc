#include "engine/kernels/packed_outliers.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "engine/kernels/packed_pot_matrix.h"

namespace pot {
namespace {

constexpr int64_t kBlock = PackedPotMatrix::kBlockOutputs;
static_assert(kBlock <= kOutlierTileOutputs && kOutlierSpan % kBlock == 0);

// Eight bytes of eight rows each, transposed by exchanging halves of 4, 2 and 1
// byte (Hacker's Delight, 7-3).
void Transpose8x8(uint64_t (&x)[8]) {
  const auto exchange = [&](int distance, uint64_t low) {
    for (int i = 0; i < 8; ++i) {
      if ((i & distance) != 0) continue;
      uint64_t& a = x[i];
      uint64_t& b = x[i + distance];
      const uint64_t t = ((a >> (8 * distance)) ^ b) & low;
      b ^= t;
      a ^= t << (8 * distance);
    }
  };
  exchange(4, 0x00000000ffffffff);
  exchange(2, 0x0000ffff0000ffff);
  exchange(1, 0x00ff00ff00ff00ff);
}

}  // namespace

void TransposeLevels(const int8_t* levels, int64_t count, int64_t stride,
                     int8_t* transposed) {
  for (int64_t first = 0; first < kOutlierTileRows; first += 8) {
    const int64_t rows = std::clamp<int64_t>(count - first, 0, 8);
    for (int64_t k = 0; k < stride; k += 8) {
      uint64_t x[8] = {};
      for (int64_t r = 0; r < rows; ++r) {
        std::memcpy(&x[r], levels + (first + r) * stride + k, 8);
      }
      Transpose8x8(x);
      for (int64_t j = 0; j < 8; ++j) {
        std::memcpy(transposed + (k + j) * kOutlierTileRows + first, &x[j], 8);
      }
    }
  }
}

PackedOutliers::PackedOutliers(const PotMatrix& matrix)
    : scale_(matrix.outliers().scale), rows_(matrix.rows()) {
  const OutlierView& from = matrix.outliers();
  if (from.size() == 0) return;
  outliers_ = HugePageBuffer<PotOutlier>(from.size());
  starts_.assign((rows_ + kBlock - 1) / kBlock + 1, from.size());
  int64_t block = -1;
  for (int64_t i = 0; i < from.size(); ++i) {
    const int64_t row = from.positions[i] / matrix.cols();
    while (block < row / kBlock) starts_[++block] = i;
    outliers_.data()[i] = {
        static_cast<uint16_t>(from.positions[i] % matrix.cols()),
        static_cast<uint16_t>(row % kOutlierSpan), from.values[i]};
  }
  for (size_t b = 0; b + 1 < starts_.size(); ++b) {
    std::sort(outliers_.data() + starts_[b], outliers_.data() + starts_[b + 1],
              [](const PotOutlier& left, const PotOutlier& right) {
                return std::tie(left.input, left.output) <
                       std::tie(right.input, right.output);
              });
  }
}

PotOutlierBlock PackedOutliers::Blocks(int64_t begin, int64_t end) const {
  return {outliers_.data() + starts_[begin], starts_[end] - starts_[begin],
          scale_, begin * kBlock % kOutlierSpan,
          std::min(end * kBlock, rows_) - begin * kBlock};
}

void PackedOutliers::AddToRow(int64_t row, absl::Span<float> weights) const {
  if (empty()) return;
  const PotOutlierBlock block = Blocks(row / kBlock, row / kBlock + 1);
  for (int64_t i = 0; i < block.count; ++i) {
    const PotOutlier& outlier = block.outliers[i];
    if (outlier.output != row % kOutlierSpan) continue;
    weights[outlier.input] += scale_ * static_cast<float>(outlier.value);
  }
}

}  // namespace pot
