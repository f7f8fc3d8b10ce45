// The functions whose speed depends on the CPU, one table per instruction
// set. A table is chosen once, at start-up; all tables compute the same bits.
#ifndef POT_ENGINE_KERNELS_KERNEL_TABLE_H_
#define POT_ENGINE_KERNELS_KERNEL_TABLE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/kernels/pot_blocks.h"
#include "engine/kernels/pot_outliers.h"
#include "engine/kernels/pot_tile.h"
#include "engine/quant/activation.h"
#include "engine/quant/pot_format.h"

namespace pot {

struct KernelTable {
  // "scalar", "shift", "avx2", "avx512vnni", "avx512vbmi", "amx" or
  // "neon".
  absl::string_view name;
  // Whether this CPU, and its operating system, can run it.
  bool (*supported)();

  // acc[r * 64 + n] = sum over k < 8 * steps of level(code(n, k)) * a[r *
  // a_stride + k], for the 64 outputs n of a block and rows r < num_rows
  // (1 <= num_rows <= kMaxDotRows). `codes`: kStepBytes per step, laid out as
  // PackedPotMatrix says, 64-byte aligned; |a| <= 127; the format has at most
  // 4 bits. Exact in int32 for steps <= 8192 (kMaxMatrixCols).
  void (*pot_dot)(const uint8_t* codes, const PotFormat& format,
                  const int8_t* a, int64_t a_stride, int num_rows,
                  int64_t steps, int32_t* acc);

  // pot_dot with all that follows it, for consecutive blocks; null: there is
  // only pot_dot.
  PotBlocksFunction* pot_blocks;

  // For more rows; null where pot_dot does as well.
  const PotTile* tile;

  // Of few rows, and of a tile of them.
  AddOutliersFunction* add_outliers;
  AddOutlierTileFunction* add_outlier_tile;

  // y[n] += scales[n] * (acc[n] - zero_point * level_sums[n]) for n < 64: the
  // parenthesis, at most 2^7 * 254 * 2^16 < 2^31, exact in int32 and rounded to
  // float once, then the product and the sum. 64-byte aligned, but y.
  void (*add_scaled)(const int32_t* acc, const float* scales,
                     const int32_t* level_sums, int32_t zero_point, float* y);

  // totals[n] += factors[n] * acc[n] for n < 64; no sum leaves int32. 64-byte
  // aligned.
  void (*add_multiplied)(const int32_t* acc, const int8_t* factors,
                         int32_t* totals);

  // y[n] = sums[n] * scale + bias[n] for n < 64, or without bias where it is
  // null; the product and the sum rounded apart.
  void (*scale_outputs)(const float* sums, float scale, const float* bias,
                        float* y);

  // Float operations with one fixed order of summation, and no fused
  // multiply-add, in every table.

  // sum x[i] * y[i]: 16 strided partial sums p[j] = x[j]y[j] + x[j+16]y[j+16]
  // + ..., then p[j] + p[j+8], p[j] + p[j+4], p[j] + p[j+2], p[0] + p[1].
  float (*dot)(const float* x, const float* y, int64_t count);
  // y = (x - mean) / sqrt(variance + epsilon) * gain + bias, the sums in the
  // order of dot. y may be x.
  void (*layer_norm)(const float* x, const float* gain, const float* bias,
                     float epsilon, int64_t count, float* y);
  // In place. tanh form (gelu_new) and erf form (gelu) of Hendrycks & Gimpel,
  // arXiv 1606.08415. |error| <= 3e-7 * max(1, |x|).
  void (*gelu_tanh)(float* x, int64_t count);
  void (*gelu_erf)(float* x, int64_t count);
  // In place: x = exp(x - max x) / sum, the sum in the order of dot. x may
  // hold -inf, for which the result is 0, but not everywhere.
  void (*softmax)(float* x, int64_t count);
  // sum exp(x[i] - max x), each term a float, in 16 strided sums of doubles
  // that are then added one after the other; 0 where all x are -inf.
  double (*exp_sum)(const float* x, int64_t count, float* max);
  // The index of the greatest of count >= 1 values, the first on a tie; -1
  // unless all are finite.
  int64_t (*arg_max)(const float* x, int64_t count);
  // In place: values[i] = (max - values[i]) / temperature, how far each lies
  // behind, and weights[i] = e^-values[i] in units of 2^-kSamplingWeightBits,
  // rounded to the nearest; 0 from kNegligibleDeficit on.
  void (*sampling_weights)(double* values, int64_t count, double max,
                           double temperature, uint64_t* weights);
  // y[i] += w * x[i].
  void (*axpy)(float w, const float* x, int64_t count, float* y);
  // QuantizeActivation (engine/quant/activation.h), the same integers.
  ActivationScale (*quantize)(const float* x, int64_t count,
                              ActivationMode mode, int8_t* a);
  // Attention over one block of kAttentionBlock cached positions, fp16 or fp32.
  // scores[r][t] = dot(queries[r], key t) / root, in the order of dot, for
  // r < rows and every t of the block, filled or not. keys: (d, block). `next`,
  // here and below, is a part of the cache of the same size that is wanted soon
  // and is fetched meanwhile; null: none.
  void (*score_keys_f16)(const float* queries, int64_t query_stride,
                         int64_t rows, const uint16_t* keys, int64_t d,
                         float root, const void* next, float* scores,
                         int64_t score_stride);
  void (*score_keys_f32)(const float* queries, int64_t query_stride,
                         int64_t rows, const float* keys, int64_t d, float root,
                         const void* next, float* scores, int64_t score_stride);
  // sums[r] += weights[r][t] * value t for r < rows, one t < count after the
  // other. values: (block, d), sums: (rows, d).
  void (*mix_values_f16)(const float* weights, int64_t weight_stride,
                         int64_t rows, const uint16_t* values, int64_t d,
                         int64_t count, const void* next, float* sums,
                         int64_t sum_stride);
  void (*mix_values_f32)(const float* weights, int64_t weight_stride,
                         int64_t rows, const float* values, int64_t d,
                         int64_t count, const void* next, float* sums,
                         int64_t sum_stride);
  // IEEE 754 half precision, round to nearest even. NaNs become quiet and keep
  // their sign and leading payload bits.
  void (*float_to_half)(const float* x, int64_t count, uint16_t* half);
};

inline constexpr int kMaxDotRows = 8;
inline constexpr int kSamplingWeightBits = 40;
// e^-32 < 2^-46: a candidate so far behind has weight 0.
inline constexpr double kNegligibleDeficit = 32.0;
inline constexpr int kAttentionBlock = 16;

// The wide shift kernel, for formats of 5 and 6 bits: acc[n] = sum over
// k < count of level(codes[64 * k + n]) * a[k] in int64, n < 64.
void WidePotDot(const uint8_t* codes, const PotFormat& format, const int8_t* a,
                int64_t count, int64_t* acc);

// All tables: the scalar reference, the literal shift kernel, then the others,
// fastest last.
absl::Span<const KernelTable* const> AllKernelTables();

// The table called `name`; "" or "auto" means the fastest that is supported,
// which "shift" never is.
// INVALID_ARGUMENT for an unknown name, FAILED_PRECONDITION for one that this
// CPU cannot run, both listing what would do.
absl::StatusOr<const KernelTable*> FindKernelTable(absl::string_view name);

// The table that the environment variable POT_KERNEL names; the fastest one
// when it is unset or empty.
absl::StatusOr<const KernelTable*> KernelTableFromEnvironment();

}  // namespace pot

#endif  // POT_ENGINE_KERNELS_KERNEL_TABLE_H_
