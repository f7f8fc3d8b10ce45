// A matrix whose scales are learned relative to where the quantizer put them:
// S (1 + Gamma), step 2 of PoTPTQ (arXiv 2507.11959).
#ifndef POT_TRAINER_PTQ_TUNED_MATRIX_H_
#define POT_TRAINER_PTQ_TUNED_MATRIX_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/quant/pot_matrix.h"
#include "engine/quant/pot_quantizer.h"
#include "trainer/optimizer/adamw.h"
#include "trainer/quantization/rounding_table.h"

namespace pot {

class TunedMatrix {
 public:
  // S as QuantizePot chooses it for weights[rows][cols], which must outlive the
  // result; Gamma is 0. Errors as QuantizePot; UNIMPLEMENTED with outliers
  // and with powers of two as scales of groups.
  static absl::StatusOr<TunedMatrix> Create(absl::Span<const float> weights,
                                            int64_t rows, int64_t cols,
                                            const QuantizeOptions& options);

  // effective[rows][cols] = s * level of w / s, s = S (1 + Gamma) in float.
  void Round(float* effective) const;

  // One step of AdamW on Gamma, `gradient` (rows, cols) being that of Round's
  // result and `step` counting from 1. Straight through the rounding:
  //   dq/ds = level - w / s, or level where w / s is beyond the outermost one.
  void Step(const AdamWOptions& adamw, double rate, int64_t step,
            absl::Span<float> gradient);

  // Gamma = 0.
  void Reset();

  // Dequantizes, bit for bit, to what Round puts out.
  absl::StatusOr<PotMatrix> Export() const;

  // Gamma, by the order of PotMatrix::scales().
  absl::Span<const float> gamma() const { return gamma_; }

 private:
  TunedMatrix() = default;

  bool one_scale() const {
    return options_.granularity.kind == Granularity::Kind::kTensor;
  }
  // Of the first group of `row` among the scales.
  int64_t FirstScale(int64_t row) const;
  void UpdateScales();

  absl::Span<const float> weights_;
  int64_t rows_ = 0, cols_ = 0;
  QuantizeOptions options_;
  RoundingTable table_;
  std::vector<float> start_;      // S
  std::vector<float> gamma_;      // Gamma
  std::vector<float> scales_;     // S (1 + Gamma)
  std::vector<float> moment_[2];  // Adam's, of Gamma
};

}  // namespace pot

#endif  // POT_TRAINER_PTQ_TUNED_MATRIX_H_
