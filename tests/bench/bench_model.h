// The models that pot-bench measures: random weights of the 124M shape, made
// once, on disk as a user's models are.
#ifndef POT_TESTS_BENCH_BENCH_MODEL_H_
#define POT_TESTS_BENCH_BENCH_MODEL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/kernels/kernel_table.h"
#include "engine/loaded_model.h"

namespace pot {

struct BenchOptions {
  std::string work;     // directory of the models, made when missing
  std::string server;   // pot-server program
  std::string trainer;  // pot-trainer program
  int repetitions = 5;
};

// Where the models below are. Each has a repository of its own, so that a
// server of one holds no other.
std::string BenchRepository(const BenchOptions& options,
                            const std::string& name);

// Makes version 1 in the repository `name` unless it is there: "gpt2", the 124M
// shape, or "nano", that of shakespeare-char; pot4 per row. "gpt2-outliers":
// "gpt2" with 0.1 % of outliers in every matrix.
absl::Status MakeBenchModel(const BenchOptions& options,
                            const std::string& name);

// Makes the repository "training" unless it is there, with "gpt2" as above and
// "gpt2-f32", the same in floats, to train.
absl::Status MakeTrainingModels(const BenchOptions& options);

// The same, loaded.
absl::StatusOr<std::shared_ptr<const LoadedModel>> LoadBenchModel(
    const BenchOptions& options, const std::string& name,
    const KernelTable* kernels);

// A model of the same shape whose layers are oneDNN's fp32 matmuls for one
// row.
std::shared_ptr<const LoadedModel> MakeOnednnModel(const LoadedModel& like);

}  // namespace pot

#endif  // POT_TESTS_BENCH_BENCH_MODEL_H_
