// Float weights to codes and scales, each weight for itself. Export and
// training call the same functions, so what was trained is what is served.
#ifndef POT_ENGINE_QUANT_POT_QUANTIZER_H_
#define POT_ENGINE_QUANT_POT_QUANTIZER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/base/thread_pool.h"
#include "engine/quant/granularity.h"
#include "engine/quant/pot_format.h"
#include "engine/quant/pot_matrix.h"

namespace pot {

enum class QuantizeMode {
  // The arithmetic that the code of arXiv 2506.00315 and 2601.02298 runs, in
  // float32: s = max(max|w| / 2^k, eps); n = w / s; a = round(|n|), half to
  // even; a = 0 gives level 0, else sign(n) * 2^min(round(log2 a), k), where k
  // is the format's paper_max_exponent.
  kPaper,
  // The level nearest in value, under the scale of least squared error among
  // kScaleSteps geometric steps of [0.04, 2.7] * max|w| / top, both signs when
  // the book is lopsided; ties go to the smaller |level|, then to the smaller
  // code, and among scales to the first.
  kNearest,
  // PoTPTQ (arXiv 2507.11959), step 1: the level nearest in log2, 0 where the
  // book has it up to half its least level, under the scale of least squared
  // error among s0 * 0.01 i, i = 1 .. 200, with s0 = 2 max|w| / top; both signs
  // when the book is lopsided. In potN-strict that is their formula: codes
  // E = clamp(round(log2(|w|/s)), 0, qmax), s0 = max|w| / 2^(qmax - 1).
  kPotPtq,
  // The same under s0 itself: what they compare with ("RTN").
  kPotPtqStart,
};

absl::StatusOr<QuantizeMode> ParseQuantizeMode(absl::string_view text);
absl::string_view QuantizeModeName(QuantizeMode mode);

struct QuantizeOptions {
  // One of AllPotFormats().
  const PotFormat* format = nullptr;
  Granularity granularity;
  QuantizeMode mode = QuantizeMode::kNearest;
  // Floor of the scale in kPaper; the papers' 2^-5 pins most GPT-2 tensors to
  // 1/32, so it is off unless asked for.
  float paper_eps = 0.0f;
  // Share of a matrix's weights, those of largest magnitude, that are kept
  // beside the grid (outliers.h): 0.001 for 0.1 %.
  double outliers = 0.0;
};

inline constexpr int kScaleSteps = 64;
inline constexpr int kPotPtqSteps = 200;

// Largest |weight|, and paper_eps, that is accepted: far beyond any model, and
// every scale times every level stays a finite float.
inline constexpr float kMaxWeight = 0x1p80f;

// weights[rows][cols]. INVALID_ARGUMENT on a weight that is not finite or
// beyond kMaxWeight (naming its row and column), on options that
// CheckQuantizeOptions refuses, and on shapes that PotMatrix refuses.
// Deterministic on every machine, and the same with any `pool`.
absl::StatusOr<PotMatrix> QuantizePot(absl::Span<const float> weights,
                                      int64_t rows, int64_t cols,
                                      const QuantizeOptions& options,
                                      ThreadPool* pool = nullptr);

// INVALID_ARGUMENT without a format, on kPaper with a format it does not apply
// to, and on a paper_eps outside [0, kMaxWeight].
absl::Status CheckQuantizeOptions(const QuantizeOptions& options);

// The two halves of QuantizePot, for one group of weights within kMaxWeight
// under options that CheckQuantizeOptions accepts.

// Scale of the group by options.mode: positive, or of either sign in a lopsided
// book; 0 when every weight is zero (unless paper_eps is larger).
float ChooseScale(absl::Span<const float> group, const QuantizeOptions& options,
                  ThreadPool* pool = nullptr);

// codes[i] of group[i] under `scale`, by options.mode; all 0 under scale 0.
void QuantizeGroup(absl::Span<const float> group, float scale,
                   const QuantizeOptions& options, absl::Span<PotCode> codes);

// sum (w - q)^2 / sum w^2 over the matrix; 0 when all weights are zero.
double NormalizedSquaredError(absl::Span<const float> weights,
                              const PotMatrix& quantized);

}  // namespace pot

#endif  // POT_ENGINE_QUANT_POT_QUANTIZER_H_
