// y = W x + b, whatever W is stored as.
#ifndef POT_ENGINE_KERNELS_LINEAR_H_
#define POT_ENGINE_KERNELS_LINEAR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/thread_pool.h"
#include "engine/kernels/kernel_table.h"
#include "engine/quant/activation.h"
#include "engine/quant/pot_matrix.h"

namespace pot {

// Immutable and safe to share; Forward may run on several threads at once
// with different outputs and pools.
class Linear {
 public:
  virtual ~Linear() = default;

  virtual int64_t inputs() const = 0;
  virtual int64_t outputs() const = 0;

  // x[rows][inputs], y[rows][outputs], both contiguous, not overlapping; x is
  // finite. Without a pool (null) the caller's thread does all.
  // INVALID_ARGUMENT for a count of rows below 0 or above 2^24.
  virtual absl::Status Forward(const float* x, int64_t rows, float* y,
                               ThreadPool* pool) const = 0;

  // Row `output` of W: weights[inputs]. A tied embedding looks tokens up so.
  virtual void WeightRow(int64_t output, absl::Span<float> weights) const = 0;

  // Memory that this layer's weights hold.
  virtual int64_t resident_bytes() const = 0;
};

// Integer path: each row of x is quantized to 8 bits, products are summed in
// int32 (int64 for formats of more than 4 bits) per group of inputs, and
// y[n] = (sum over groups g, in order, of scale(n,g) * (acc(n,g) - z *
// level_sum(n,g))) * activation scale + bias[n], each operation rounded to
// float, or with powers of two (scale(n) * (sum over groups of factor(n,g) *
// acc(n,g) - z * level_sum(n))) * activation scale + bias[n], the sum over a row
// exact in int32 or int64; then the outliers, if any, by pot_outliers.h. A row's bits depend on that row alone: not on the other rows, the
// threads or the kernels. `bias` is empty or has one value per output. kFloat
// activations give the float layer of the dequantized weights instead.
absl::StatusOr<std::unique_ptr<const Linear>> MakePotLinear(
    const PotMatrix& matrix, std::vector<float> bias, ActivationMode mode,
    const KernelTable* kernels);

// fp32 path through oneDNN's sgemm, called on each of the pool's threads for a
// part of the outputs. weights[outputs][inputs], or [inputs][outputs] when
// `transposed`; one copy is kept, in the former order. Rounding may differ
// with `rows` and with the number of threads.
absl::StatusOr<std::unique_ptr<const Linear>> MakeFloatLinear(
    absl::Span<const float> weights, int64_t outputs, int64_t inputs,
    bool transposed, std::vector<float> bias);

}  // namespace pot

#endif  // POT_ENGINE_KERNELS_LINEAR_H_
