// Float tensors of a Hugging Face model directory: model.safetensors, or the
// shards that model.safetensors.index.json names.
#ifndef POT_ENGINE_CHECKPOINT_TENSOR_SOURCE_H_
#define POT_ENGINE_CHECKPOINT_TENSOR_SOURCE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace pot {

// The files may belong to somebody who changes them meanwhile: they are read
// piece by piece, never mapped, and never mixed with what replaced them.
class TensorSource {
 public:
  // NOT_FOUND when the directory has neither file; INVALID_ARGUMENT for a
  // malformed one, an index that names files outside the directory, a missing
  // shard, or a tensor in two shards.
  static absl::StatusOr<std::unique_ptr<const TensorSource>> Open(
      const std::string& directory);

  virtual ~TensorSource() = default;

  // Names as they stand in the files, sorted.
  virtual std::vector<std::string> names() const = 0;
  virtual bool Has(absl::string_view name) const = 0;

  // Tensor `name` as fp32, widened exactly from F16 or BF16 where needed.
  // NOT_FOUND without it, INVALID_ARGUMENT for another shape or type (both
  // named) or a value that is not finite (its index named).
  // FAILED_PRECONDITION when the file has changed since Open().
  virtual absl::StatusOr<std::vector<float>> ReadFloats(
      absl::string_view name, absl::Span<const int64_t> shape) const = 0;

  // SHA-256 over the files' content in the order of their names: what
  // identifies the base of a quantized model. FAILED_PRECONDITION as above.
  virtual absl::StatusOr<std::string> Digest() const = 0;

  // Copies the files, an index included, under their names into `directory`,
  // which exists, and fsyncs them. FAILED_PRECONDITION as above.
  virtual absl::Status CopyFiles(const std::string& directory) const = 0;
};

}  // namespace pot

#endif  // POT_ENGINE_CHECKPOINT_TENSOR_SOURCE_H_
