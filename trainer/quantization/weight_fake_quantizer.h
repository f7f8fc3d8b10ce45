// Fake quantization of one weight matrix for training: the forward pass runs on
// the weights that export would write, the gradient goes to float "shadow"
// weights behind them.
//
//   x = w / s,  level = the book's level for x by QuantizeGroup,  q = s * level
//
// Gradient of the weights (straight-through estimator): dL/dw = dL/dq, with
// kClipped only where |x| is not beyond the largest level of its sign.
//
// Gradient of a learned scale (LSQ, arXiv 1902.08153: equation 3 and the
// gradient scale g, for a book of levels that need not be uniform):
//
//   dq/ds = level - x  where |x| is not beyond the largest level of its sign,
//           level      beyond, and wherever codes are frozen
//   g     = 1 / sqrt(N * top), N weights under the scale, top the largest
//           |level| that quantize.mode uses
//
// The parameter is l = log |s|, so that a scale stays positive, or negative,
// and steps are relative: dq/dl = s * dq/ds, that is q - w, or q beyond, and
//
//   dL/dl = g * sum over the N weights of dL/dq * dq/dl.
#ifndef POT_TRAINER_QUANTIZATION_WEIGHT_FAKE_QUANTIZER_H_
#define POT_TRAINER_QUANTIZATION_WEIGHT_FAKE_QUANTIZER_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/quant/pot_matrix.h"
#include "engine/quant/pot_quantizer.h"
#include "trainer/quantization/rounding_table.h"
#include "trainer/quantization/state_tensors.h"

namespace pot {

enum class StraightThrough {
  kIdentity,  // dL/dw = dL/dq everywhere, as in the papers
  kClipped,   // 0 where |w / s| is beyond the largest level of its sign
};

struct FakeQuantizeOptions {
  QuantizeOptions quantize;
  StraightThrough straight_through = StraightThrough::kClipped;
  // Scales are parameters that start where ChooseScale puts them; else they
  // follow the weights by quantize.mode.
  bool learned_scales = false;
  // With kNearest and scales that are not learned: every so many Forwards the
  // scale is searched, and kept between. At least 1. kPaper's scale is a
  // maximum, so it follows at every Forward.
  int64_t search_interval = 100;
};

// Parameters of one matrix and their gradients, one per scale.
struct LogScales {
  float* values = nullptr;     // log |s|; clamped to [-87, 60] by Forward
  float* gradients = nullptr;  // added to by Backward
};

// Not thread-safe. The loops run on OpenMP's threads; results do not depend on
// their number. Weights must be finite and at most kMaxWeight in magnitude: for
// others results are unspecified, and Export refuses them.
class WeightFakeQuantizer {
 public:
  // Scales of a matrix: rows * groups, or 1 for the whole tensor.
  static int64_t NumScales(int64_t rows, int64_t cols, Granularity granularity);

  // For weights w[rows][cols]. `log_scales` point to NumScales() floats each
  // that outlive the result; not used unless scales are learned.
  // INVALID_ARGUMENT where QuantizePot would say so, and for a search_interval
  // below 1.
  static absl::StatusOr<WeightFakeQuantizer> Create(
      int64_t rows, int64_t cols, const FakeQuantizeOptions& options,
      LogScales log_scales = {});

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t num_scales() const { return static_cast<int64_t>(scales_.size()); }
  // |s| with its sign as of the last Forward; 0 where all weights were zero.
  absl::Span<const float> scales() const { return scales_; }
  const FakeQuantizeOptions& options() const { return options_; }
  bool frozen() const { return !codes_.empty(); }
  // UpdateScales uses one thread only.
  bool searches_on_one_thread() const;

  // effective[rows][cols] = s * level. Every call counts for search_interval,
  // the ones for evaluation too. The first chooses all scales; later ones also
  // choose the scale of a group whose weights were all zero so far.
  void Forward(const float* w, float* effective);

  // The two halves of Forward.
  void UpdateScales(const float* w);
  void Round(const float* w, float* effective) const;

  // grad[rows][cols] is dL/dq and becomes dL/dw, all 0 once codes are frozen.
  // Adds to the gradients of learned scales. `w` as in the last Forward. A
  // weight whose scale is 0 keeps its gradient.
  void Backward(const float* w, float* grad);

  // The next Forward searches the scales, whatever the interval: for the last
  // evaluation before an export.
  void RequestSearch();

  // Holds the codes that `w` has under the scales of the last Forward (or, if
  // there was none, under those that ChooseScale gives it). From now on
  // effective = s * level of the held code, only learned scales change, and the
  // weights do not matter. No effect when frozen.
  void FreezeCodes(const float* w);

  // Dequantizes, bit for bit, to what the last Forward put out if `w` is the
  // same. FAILED_PRECONDITION before the first Forward; INVALID_ARGUMENT as
  // QuantizePot.
  absl::StatusOr<PotMatrix> Export(const float* w) const;

  // Appends "<prefix>scales" F32, "<prefix>log_scales" F32 if learned,
  // "<prefix>codes" U8 if frozen and "<prefix>counters" I64.
  void AppendState(const std::string& prefix, StateTensors* state) const;
  // The reverse, from a file's tensors. INVALID_ARGUMENT names a tensor that is
  // missing or does not fit, and leaves the object as it was.
  absl::Status Restore(const std::string& prefix, const TensorMap& tensors);

 private:
  WeightFakeQuantizer() = default;

  // Weights in a row whose first scale, and first sum over a scale, are these.
  // A matrix with one scale has a sum per block of weights.
  struct Stretch {
    int64_t first = 0, count = 0;
    int64_t scale = 0;
    int64_t sum = 0;
  };
  bool one_scale() const;
  // Weights of a stretch that share a scale; the last may be fewer.
  int64_t run_length() const;
  int64_t num_sums() const;
  // Calls with stretches that make up the matrix, on all threads.
  template <typename Function>
  void ForEachStretch(Function function) const;

  // All of them, or those that are 0.
  void ChooseScales(const float* w, bool all);
  // One per weight.
  std::vector<PotCode> CodesOf(const float* w) const;
  // Of held codes.
  std::array<float, 1 << PotFormat::kMaxBits> Levels() const;
  // `sums` are of dL/dq * dq/dl, num_sums() of them.
  void AddScaleGradients(absl::Span<const double> sums);

  int64_t rows_ = 0;
  int64_t cols_ = 0;
  FakeQuantizeOptions options_;
  RoundingTable table_;
  LogScales log_scales_;
  std::vector<float> scales_;   // [num_scales()]
  std::vector<PotCode> codes_;  // [rows][cols] once frozen
  // Whether scales have been chosen, and Forwards since the last search, at
  // most search_interval.
  std::array<int64_t, 2> counters_ = {0, 0};
};

}  // namespace pot

#endif  // POT_TRAINER_QUANTIZATION_WEIGHT_FAKE_QUANTIZER_H_
