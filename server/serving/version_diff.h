// What differs between two versions, weight by weight.
#ifndef POT_SERVER_SERVING_VERSION_DIFF_H_
#define POT_SERVER_SERVING_VERSION_DIFF_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/serving/model_version.h"

namespace pot {

struct VersionDiff {
  struct Tensor {
    std::string name;
    std::vector<int64_t> shape;  // as Hugging Face has it
    std::string left_format, left_granularity;
    std::string right_format, right_granularity;
    // Of two matrices of the same PoT format.
    std::optional<int64_t> changed_codes;
    // sum (left - right)^2 / sum left^2, in double; 0 when both are zero and
    // infinite when only `left` is.
    double relative_squared_error = 0;
    double max_absolute_difference = 0;
  };
  ModelVersionInfo left, right;
  std::vector<Tensor> tensors;
};

// Compares two model directories in the order of Gpt2Tensors(); one float
// tensor of each side is in memory at a time. INVALID_ARGUMENT (SHAPE_MISMATCH)
// for different architectures, DATA_LOSS (CORRUPT_CHECKPOINT) for files that
// cannot be read.
absl::StatusOr<std::vector<VersionDiff::Tensor>> DiffDirectories(
    const std::string& left, const std::string& right);

}  // namespace pot

#endif  // POT_SERVER_SERVING_VERSION_DIFF_H_
