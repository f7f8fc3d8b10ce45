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

  // The files that make up the source, an index included: what a copy of the
  // model needs. `path` is where the file lies, links resolved.
  struct File {
    std::string name;
    std::string path;
  };
  virtual std::vector<File> files() const = 0;

  // Tensor `name` as fp32, widened exactly from F16 or BF16 where needed.
  // NOT_FOUND without it, INVALID_ARGUMENT for another shape or type (both
  // named) or a value that is not finite (its index named).
  virtual absl::StatusOr<std::vector<float>> ReadFloats(
      absl::string_view name, absl::Span<const int64_t> shape) const = 0;

  // SHA-256 over the files' content in the order of their names: what
  // identifies the base of a quantized model.
  virtual absl::StatusOr<std::string> Digest() const = 0;
};

}  // namespace pot

#endif  // POT_ENGINE_CHECKPOINT_TENSOR_SOURCE_H_
