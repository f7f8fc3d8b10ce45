// Matrix products by oneDNN, as the baseline: weights in the order that oneDNN
// itself chooses, through its own threads.
#ifndef POT_TESTS_BENCH_ONEDNN_MATMUL_H_
#define POT_TESTS_BENCH_ONEDNN_MATMUL_H_

#include <cstdint>
#include <memory>

#include "engine/kernels/linear.h"

namespace pot {

// Threads that oneDNN's products use from now on.
void SetOnednnThreads(int threads);

// y = x W for a fixed number of rows; random weights.
class OnednnMatmul {
 public:
  enum class Type { kF32, kU8S8S32 };

  OnednnMatmul(Type type, int64_t rows, int64_t inputs, int64_t outputs);
  ~OnednnMatmul();

  // On memory of its own.
  void Run();
  // The same for float data: x[rows][inputs], y[rows][outputs]. kF32 only.
  void Run(const float* x, float* y);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A layer that multiplies `rows` rows, and no other number, by random fp32
// weights, without bias.
std::unique_ptr<const Linear> MakeOnednnLinear(int64_t rows, int64_t inputs,
                                               int64_t outputs);

}  // namespace pot

#endif  // POT_TESTS_BENCH_ONEDNN_MATMUL_H_
