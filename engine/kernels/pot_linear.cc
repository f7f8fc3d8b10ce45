#include <algorithm>
#include <atomic>
#include <new>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/huge_page_buffer.h"
#include "engine/kernels/linear.h"
#include "engine/kernels/linear_arguments.h"
#include "engine/kernels/packed_outliers.h"
#include "engine/kernels/packed_pot_matrix.h"

namespace pot {
namespace {

constexpr int64_t kBlock = PackedPotMatrix::kBlockOutputs;

// x[rows][inputs] in 8 bits, every row padded with zeros to `stride`. Kept by
// the calling thread from one product to the next, since fresh memory for a
// prompt's activations costs as much as quantizing them.
struct QuantizedRows {
  AlignedBuffer<int8_t> levels;
  std::vector<ActivationScale> scales;
  int64_t stride = 0;
  // By tiles of kOutlierTileRows, where there are outliers and enough rows.
  AlignedBuffer<int8_t> transposed;
};

// Rows from which a tile of outliers takes less time than row by row: see
// README.md.
constexpr int64_t kMinOutlierTileRows = 6;

// What a thread needs for products of many rows.
struct TileScratch {
  AlignedBuffer<uint8_t> levels;  // of one block
  AlignedBuffer<int32_t> acc{kMaxTileRows * kBlock};
  AlignedBuffer<int32_t> totals{kMaxTileRows * kBlock};  // of factors
  AlignedBuffer<float> sums{kMaxTileRows * kBlock};
};

// Scratch of `count` threads, with room for `level_bytes`; kept by the calling
// thread, since fresh memory costs more than the products of small matrices.
std::vector<TileScratch>& TileScratches(size_t count, size_t level_bytes) {
  thread_local std::vector<TileScratch> scratches;
  if (scratches.size() < count) scratches.resize(count);
  for (TileScratch& scratch : scratches) {
    if (scratch.levels.size() < level_bytes) {
      scratch.levels = AlignedBuffer<uint8_t>(level_bytes);
    }
  }
  return scratches;
}

class PotLinear : public Linear {
 public:
  PotLinear(const PotMatrix& matrix, const std::vector<float>& bias,
            ActivationMode mode, const KernelTable* kernels)
      : weights_(matrix, kernels),
        outliers_(matrix),
        bias_(bias.size(), HugePageStream::kScales),
        mode_(mode),
        kernels_(kernels) {
    std::copy(bias.begin(), bias.end(), bias_.data());
  }

  int64_t inputs() const override { return weights_.cols(); }
  int64_t outputs() const override { return weights_.rows(); }
  int64_t resident_bytes() const override {
    return weights_.resident_bytes() + outliers_.resident_bytes() +
           static_cast<int64_t>(bias_.size() * sizeof(float));
  }

  void WeightRow(int64_t output, absl::Span<float> weights) const override {
    weights_.DequantizeRow(output, weights);
    outliers_.AddToRow(output, weights);
  }

  absl::Status Forward(const float* x, int64_t rows, float* y,
                       ThreadPool* pool) const override {
    POT_RETURN_IF_ERROR(CheckForward(rows));
    FetchBeginning();
    const QuantizedRows& a = Quantize(x, rows, pool);
    const bool fast = !weights_.wide() && weights_.fits_int32();
    if (fast && kernels_->tile != nullptr && rows >= kernels_->tile->min_rows) {
      ForwardTiles(a, rows, pool, y);
      return absl::OkStatus();
    }
    ParallelFor(pool, weights_.num_blocks(), 1, [&](size_t begin, size_t end) {
      if (fast && kernels_->pot_blocks != nullptr) {
        ForwardBlocks(a, rows, begin, end, y);
        AddOutliers(a, rows, begin, end, y);
        return;
      }
      for (size_t block = begin; block < end; ++block) {
        // The block's codes stay in cache from one chunk of rows to the next.
        for (int64_t row = 0; row < rows; row += kMaxDotRows) {
          const int chunk =
              static_cast<int>(std::min<int64_t>(kMaxDotRows, rows - row));
          if (weights_.power_of_two() && !weights_.fits_int32()) {
            ForwardLongRows(a, row, chunk, block, y);
          } else if (weights_.wide()) {
            ForwardWideBlock(a, row, chunk, block, y);
          } else {
            ForwardBlock(a, row, chunk, block, y);
          }
        }
      }
      AddOutliers(a, rows, begin, end, y);
    });
    return absl::OkStatus();
  }

 private:
  // Asks for the first codes: memory works while activations are quantized,
  // and the CPU's prefetcher sees where it goes on.
  void FetchBeginning() const {
    constexpr int64_t kBytes = 1024;
    for (int64_t at = 0; at < kBytes; at += 64) {
      __builtin_prefetch(weights_.BlockCodes(0, 0) + at);
    }
  }

  // Valid until the calling thread's next call.
  const QuantizedRows& Quantize(const float* x, int64_t rows,
                                ThreadPool* pool) const {
    thread_local QuantizedRows a;
    const int64_t stride = weights_.padded_cols();
    a.stride = stride;
    if (static_cast<int64_t>(a.levels.size()) < rows * stride) {
      a.levels = AlignedBuffer<int8_t>(rows * stride);
    }
    a.scales.resize(static_cast<size_t>(rows));
    int8_t* const levels = a.levels.data();
    ActivationScale* const scales = a.scales.data();
    ParallelFor(pool, rows, 1, [&](size_t begin, size_t end) {
      for (size_t row = begin; row < end; ++row) {
        int8_t* const row_levels = levels + row * stride;
        scales[row] =
            kernels_->quantize(x + row * inputs(), inputs(), mode_, row_levels);
        std::fill(row_levels + inputs(), row_levels + stride, int8_t{0});
      }
    });
    if (!outliers_.empty() && rows >= kMinOutlierTileRows) {
      TransposeTiles(rows, pool, &a);
    }
    return a;
  }

  static void TransposeTiles(int64_t rows, ThreadPool* pool, QuantizedRows* a) {
    const int64_t tiles = (rows + kOutlierTileRows - 1) / kOutlierTileRows;
    const int64_t tile_size = kOutlierTileRows * a->stride;
    if (static_cast<int64_t>(a->transposed.size()) < tiles * tile_size) {
      a->transposed = AlignedBuffer<int8_t>(tiles * tile_size);
    }
    const int8_t* const levels = a->levels.data();
    int8_t* const transposed = a->transposed.data();
    const int64_t stride = a->stride;
    ParallelFor(pool, tiles, 1, [=](size_t begin, size_t end) {
      for (int64_t tile = begin; tile < static_cast<int64_t>(end); ++tile) {
        TransposeLevels(levels + tile * tile_size,
                        rows - tile * kOutlierTileRows, stride,
                        transposed + tile * tile_size);
      }
    });
  }

  // To the finished outputs of blocks [begin, end) of all rows.
  void AddOutliers(const QuantizedRows& a, int64_t rows, int64_t begin,
                   int64_t end, float* y) const {
    if (outliers_.empty()) return;
    for (int64_t row = 0; row < rows; row += kOutlierTileRows) {
      const int64_t count = std::min<int64_t>(kOutlierTileRows, rows - row);
      const bool tile = count >= kMinOutlierTileRows;
      const int8_t* const levels = tile ? a.transposed.data() : a.levels.data();
      const PotRows chunk = {levels + row * a.stride, a.stride,
                             a.scales.data() + row, count};
      constexpr int64_t kSpanBlocks = kOutlierSpan / kBlock;
      for (int64_t block = begin, next; block < end; block = next) {
        const int64_t span_end = (block / kSpanBlocks + 1) * kSpanBlocks;
        next = tile ? block + 1 : std::min(end, span_end);
        (tile ? kernels_->add_outlier_tile : kernels_->add_outliers)(
            outliers_.Blocks(block, next), chunk,
            y + row * outputs() + block * kBlock, outputs());
      }
    }
  }

  int64_t GroupLength(int64_t group) const {
    const int64_t begin = group * weights_.group_size();
    return std::min(weights_.group_size(), weights_.cols() - begin);
  }

  int64_t GroupSteps(int64_t group) const {
    return (GroupLength(group) + PackedPotMatrix::kStepInputs - 1) /
           PackedPotMatrix::kStepInputs;
  }

  // All rows, through the kernels' tiles.
  void ForwardTiles(const QuantizedRows& a, int64_t rows, ThreadPool* pool,
                    float* y) const {
    const int64_t steps = weights_.padded_cols() / PackedPotMatrix::kStepInputs;
    std::vector<TileScratch>& scratches =
        TileScratches(pool == nullptr ? 1 : pool->num_threads(),
                      steps * kernels_->tile->step_bytes(weights_.format()));
    std::atomic<size_t> next_scratch{0};
    ParallelFor(pool, weights_.num_blocks(), 1, [&](size_t begin, size_t end) {
      TileScratch& scratch = scratches[next_scratch.fetch_add(1)];
      for (size_t block = begin; block < end; ++block) {
        kernels_->tile->unpack(weights_.BlockCodes(block, 0), weights_.format(),
                               steps, scratch.levels.data());
        const int rows_per_call = kernels_->tile->rows_per_call;
        for (int64_t row = 0; row < rows; row += rows_per_call) {
          const int count =
              static_cast<int>(std::min<int64_t>(rows_per_call, rows - row));
          // The next block's codes arrive while this one's are multiplied.
          const bool fetch = row == 0 && block + 1 < end;
          ForwardTile(a, row, count, block, fetch, &scratch, y);
        }
        AddOutliers(a, rows, block, block + 1, y);
      }
    });
  }

  // Outputs of one unpacked block for rows [row, row + count).
  void ForwardTile(const QuantizedRows& a, int64_t row, int count,
                   int64_t block, bool fetch_next, TileScratch* scratch,
                   float* y) const {
    const PotTile& tile = *kernels_->tile;
    const int64_t step_bytes = tile.step_bytes(weights_.format());
    int32_t* acc = scratch->acc.data();
    int32_t* totals = scratch->totals.data();
    float* sums = scratch->sums.data();
    std::fill_n(sums, count * kBlock, 0.0f);
    if (weights_.power_of_two()) std::fill_n(totals, count * kBlock, 0);
    // Outputs lie far apart: their lines are asked for before the long work.
    for (int r = 0; r < count; ++r) {
      const float* const out = y + (row + r) * outputs() + block * kBlock;
      for (int64_t n = 0; n < kBlock; n += 16) __builtin_prefetch(out + n, 1);
    }
    for (int64_t group = 0; group < weights_.groups_per_row(); ++group) {
      const int64_t k = group * weights_.group_size();
      tile.dot(scratch->levels.data() +
                   k / PackedPotMatrix::kStepInputs * step_bytes,
               weights_.format(), a.levels.data() + row * a.stride + k,
               a.stride, count, GroupSteps(group),
               fetch_next ? weights_.BlockCodes(block + 1, k) : nullptr, acc);
      AddGroup(a, row, count, block, group, acc, totals, sums);
    }
    AddTotals(a, row, count, block, totals, sums);
    for (int r = 0; r < count; ++r) {
      StoreOutputs(sums + r * kBlock, a.scales[row + r].scale, block, row + r,
                   y);
    }
  }

  // What a group's sums add, and what is added when all groups have been.
  void AddGroup(const QuantizedRows& a, int64_t row, int count, int64_t block,
                int64_t group, const int32_t* acc, int32_t* totals,
                float* sums) const {
    if (!weights_.power_of_two()) {
      AddScaled(a, row, count, block, group, acc, sums);
      return;
    }
    const int8_t* const factors = weights_.Factors(block, group);
    for (int r = 0; r < count; ++r) {
      kernels_->add_multiplied(acc + r * kBlock, factors, totals + r * kBlock);
    }
  }
  void AddTotals(const QuantizedRows& a, int64_t row, int count, int64_t block,
                 const int32_t* totals, float* sums) const {
    if (weights_.power_of_two()) {
      AddScaled(a, row, count, block, 0, totals, sums);
    }
  }

  void AddScaled(const QuantizedRows& a, int64_t row, int count, int64_t block,
                 int64_t group, const int32_t* acc, float* sums) const {
    const float* scales = weights_.Scales(block, group);
    const int32_t* level_sums = weights_.LevelSums(block, group);
    for (int r = 0; r < count; ++r) {
      kernels_->add_scaled(acc + r * kBlock, scales, level_sums,
                           a.scales[row + r].zero_point, sums + r * kBlock);
    }
  }

  // Outputs of blocks [begin, end) for all rows.
  void ForwardBlocks(const QuantizedRows& a, int64_t rows, int64_t begin,
                     int64_t end, float* y) const {
    const int64_t first = begin * kBlock;
    const PotBlocks blocks = {
        &weights_.format(),
        weights_.BlockCodes(begin, 0),
        weights_.Scales(begin, 0),
        weights_.scale_stride(),
        weights_.LevelSums(begin, 0),
        weights_.power_of_two() ? weights_.Factors(begin, 0) : nullptr,
        bias_.size() == 0 ? nullptr : bias_.data() + first,
        std::min(outputs(), end * kBlock) - first,
        weights_.padded_cols() / PackedPotMatrix::kStepInputs,
        GroupSteps(0)};
    kernels_->pot_blocks(blocks,
                         {a.levels.data(), a.stride, a.scales.data(), rows},
                         y + first, outputs());
  }

  // Outputs of one block for rows [row, row + count), count <= kMaxDotRows.
  void ForwardBlock(const QuantizedRows& a, int64_t row, int count,
                    int64_t block, float* y) const {
    alignas(64) int32_t acc[kMaxDotRows * kBlock];
    alignas(64) int32_t totals[kMaxDotRows * kBlock];
    alignas(64) float sums[kMaxDotRows * kBlock];
    std::fill_n(sums, count * kBlock, 0.0f);
    if (weights_.power_of_two()) std::fill_n(totals, count * kBlock, 0);
    // Asked for now, wanted when the block's codes have gone by.
    for (int64_t n = 0; n < kBlock; n += 16) {
      __builtin_prefetch(weights_.Scales(block, 0) + n);
      __builtin_prefetch(weights_.LevelSums(block, 0) + n);
    }
    for (int64_t group = 0; group < weights_.groups_per_row(); ++group) {
      const int64_t k = group * weights_.group_size();
      kernels_->pot_dot(weights_.BlockCodes(block, k), weights_.format(),
                        a.levels.data() + row * a.stride + k, a.stride, count,
                        GroupSteps(group), acc);
      AddGroup(a, row, count, block, group, acc, totals, sums);
    }
    AddTotals(a, row, count, block, totals, sums);
    for (int r = 0; r < count; ++r) {
      StoreOutputs(sums + r * kBlock, a.scales[row + r].scale, block, row + r,
                   y);
    }
  }

  // The same for rows whose sums, factors included, may need int64: of formats
  // of more than 4 bits at most 2^31 * 2^7 * 254 * 2^16 < 2^63.
  void ForwardLongRows(const QuantizedRows& a, int64_t row, int count,
                       int64_t block, float* y) const {
    for (int r = 0; r < count; ++r) {
      const int8_t* const levels = a.levels.data() + (row + r) * a.stride;
      int64_t totals[kBlock] = {};
      for (int64_t group = 0; group < weights_.groups_per_row(); ++group) {
        const int64_t k = group * weights_.group_size();
        const int8_t* const factors = weights_.Factors(block, group);
        int64_t acc[kBlock];
        if (weights_.wide()) {
          WidePotDot(weights_.BlockCodes(block, k), weights_.format(),
                     levels + k, GroupLength(group), acc);
        } else {
          alignas(64) int32_t short_acc[kBlock];
          kernels_->pot_dot(weights_.BlockCodes(block, k), weights_.format(),
                            levels + k, a.stride, 1, GroupSteps(group),
                            short_acc);
          std::copy_n(short_acc, kBlock, acc);
        }
        for (int64_t n = 0; n < kBlock; ++n) totals[n] += factors[n] * acc[n];
      }
      const float* const scales = weights_.Scales(block, 0);
      const int64_t* const level_sums = weights_.WideLevelSums(block, 0);
      float sums[kBlock] = {};
      for (int64_t n = 0; n < kBlock; ++n) {
        const int64_t exact =
            totals[n] - a.scales[row + r].zero_point * level_sums[n];
        sums[n] += scales[n] * static_cast<float>(exact);
      }
      StoreOutputs(sums, a.scales[row + r].scale, block, row + r, y);
    }
  }

  // The same for formats of more than 4 bits.
  void ForwardWideBlock(const QuantizedRows& a, int64_t row, int count,
                        int64_t block, float* y) const {
    int64_t acc[kBlock];
    for (int r = 0; r < count; ++r) {
      float sums[kBlock] = {};
      const int64_t zero_point = a.scales[row + r].zero_point;
      for (int64_t group = 0; group < weights_.groups_per_row(); ++group) {
        const int64_t k = group * weights_.group_size();
        WidePotDot(weights_.BlockCodes(block, k), weights_.format(),
                   a.levels.data() + (row + r) * a.stride + k,
                   GroupLength(group), acc);
        const float* scales = weights_.Scales(block, group);
        const int64_t* level_sums = weights_.WideLevelSums(block, group);
        for (int64_t n = 0; n < kBlock; ++n) {
          const int64_t exact = acc[n] - zero_point * level_sums[n];
          sums[n] += scales[n] * static_cast<float>(exact);
        }
      }
      StoreOutputs(sums, a.scales[row + r].scale, block, row + r, y);
    }
  }

  void StoreOutputs(const float* sums, float scale, int64_t block, int64_t row,
                    float* y) const {
    const int64_t first = block * kBlock;
    const int64_t count = std::min(kBlock, outputs() - first);
    float* out = y + row * outputs() + first;
    if (count == kBlock) {
      kernels_->scale_outputs(
          sums, scale, bias_.size() == 0 ? nullptr : bias_.data() + first, out);
    } else if (bias_.size() == 0) {
      for (int64_t n = 0; n < count; ++n) out[n] = sums[n] * scale;
    } else {
      const float* bias = bias_.data() + first;
      for (int64_t n = 0; n < count; ++n) out[n] = sums[n] * scale + bias[n];
    }
  }

  const PackedPotMatrix weights_;
  const PackedOutliers outliers_;
  HugePageBuffer<float> bias_;
  const ActivationMode mode_;
  const KernelTable* const kernels_;
};

absl::StatusOr<std::unique_ptr<const Linear>> MakeDequantized(
    const PotMatrix& matrix, std::vector<float> bias) {
  std::vector<float> weights(
      static_cast<size_t>(matrix.rows() * matrix.cols()));
  for (int64_t row = 0; row < matrix.rows(); ++row) {
    matrix.DequantizeRow(row, absl::MakeSpan(weights).subspan(
                                  row * matrix.cols(), matrix.cols()));
  }
  return MakeFloatLinear(weights, matrix.rows(), matrix.cols(),
                         /*transposed=*/false, std::move(bias));
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Linear>> MakePotLinear(
    const PotMatrix& matrix, std::vector<float> bias, ActivationMode mode,
    const KernelTable* kernels) {
  POT_RETURN_IF_ERROR(CheckBias(bias.size(), matrix.rows()));
  if (kernels == nullptr) {
    return absl::InvalidArgumentError("quantized layer without kernels");
  }
  if (!kernels->supported()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "this CPU cannot run the kernels \"", kernels->name, "\""));
  }
  try {
    if (mode == ActivationMode::kFloat) {
      return MakeDequantized(matrix, std::move(bias));
    }
    return std::make_unique<const PotLinear>(matrix, bias, mode, kernels);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for a quantized layer of ", matrix.rows(),
                     " x ", matrix.cols(), " weights"));
  }
}

}  // namespace pot
