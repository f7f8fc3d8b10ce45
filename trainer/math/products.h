// Matrix products of training, by oneDNN.
#ifndef POT_TRAINER_MATH_PRODUCTS_H_
#define POT_TRAINER_MATH_PRODUCTS_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace pot {

enum class Precision {
  kF32,
  // Operands rounded to bfloat16, sums in float32.
  kBf16,
};

// Whether the CPU multiplies bfloat16 natively; kBf16 without it is slow.
bool HasNativeBf16();

// c[m][n] = a[m][k] b[k][n], for each of `batch` matrices that lie one after
// the other. A transposed operand is stored as [k][m] or [n][k].
struct ProductShape {
  int64_t m = 0, n = 0, k = 0;
  int64_t batch = 1;
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;  // c += instead of c =
};

// Products<double> exists to check gradients, in plain loops.
template <typename T>
class Products {
 public:
  // FAILED_PRECONDITION for kBf16 on a CPU that oneDNN has no bfloat16 for, or
  // with T = double.
  static absl::StatusOr<std::unique_ptr<Products>> Create(Precision precision);
  virtual ~Products() = default;

  virtual Precision precision() const = 0;

  // Deterministic: the same bits for the same operands, shape and number of
  // OpenMP threads. Errors of the library are kept for status(), so that a
  // whole forward or backward pass is checked once.
  virtual void Multiply(const ProductShape& shape, const T* a, const T* b,
                        T* c) = 0;

  // Operands that lie in [begin, begin + count) are rounded now, once, instead
  // of at every Multiply(), until the next call or Release(). For weights.
  virtual void Hold(const T* begin, int64_t count) = 0;
  virtual void Release() = 0;

  // The first error of any call.
  virtual const absl::Status& status() const = 0;
};

// out[i] = x[i] rounded to bfloat16, half to even.
void RoundToBf16(const float* x, int64_t count, uint16_t* out);

}  // namespace pot

#endif  // POT_TRAINER_MATH_PRODUCTS_H_
