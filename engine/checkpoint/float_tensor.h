#ifndef POT_ENGINE_CHECKPOINT_FLOAT_TENSOR_H_
#define POT_ENGINE_CHECKPOINT_FLOAT_TENSOR_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/base/file.h"
#include "engine/checkpoint/safetensors.h"

namespace pot {

// An F32, F16 or BF16 tensor as fp32, widened exactly. INVALID_ARGUMENT,
// beginning with `what`, for another type or shape, or a value that is not
// finite (its index named).
absl::StatusOr<std::vector<float>> WidenToFloats(
    const TensorView& view, absl::Span<const int64_t> shape,
    absl::string_view what);

// The same of a tensor of `file`'s header;
// FAILED_PRECONDITION when the file has changed since.
absl::StatusOr<std::vector<float>> ReadFloatTensor(
    const ForeignFile& file, const SafetensorsHeader::Tensor& tensor,
    absl::Span<const int64_t> shape, absl::string_view what);

// "[1, 0, 2]": where element `flat` of a row-major tensor stands.
std::string IndexString(int64_t flat, absl::Span<const int64_t> shape);

}  // namespace pot

#endif  // POT_ENGINE_CHECKPOINT_FLOAT_TENSOR_H_
