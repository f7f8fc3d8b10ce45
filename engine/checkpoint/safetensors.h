// The safetensors container: an 8-byte little-endian header length, a JSON
// header {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ..,
// "__metadata__": {string: string}}, and the tensors' bytes.
// https://github.com/huggingface/safetensors describes the format.
#ifndef POT_ENGINE_CHECKPOINT_SAFETENSORS_H_
#define POT_ENGINE_CHECKPOINT_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/base/file.h"

namespace pot {

enum class TensorType {
  kF32,
  kF16,
  kBF16,
  kF64,
  kI8,
  kU8,
  kI16,
  kI32,
  kI64,
  kU16,
  kU32,
  kU64,
  kBool
};
absl::string_view TensorTypeName(TensorType type);
int64_t TensorTypeBytes(TensorType type);

// "[2, 3]".
std::string ShapeString(absl::Span<const int64_t> shape);

struct TensorView {
  TensorType type = TensorType::kF32;
  std::vector<int64_t> shape;
  // Row-major, little-endian, not necessarily aligned for its type.
  absl::Span<const uint8_t> bytes;

  int64_t num_elements() const;
};

// What stands before the data, checked against the length of the file: a
// tensor's bytes are as long as its shape and type say, and the tensors cover
// the data section without overlap or hole.
struct SafetensorsHeader {
  struct Tensor {
    TensorType type = TensorType::kF32;
    std::vector<int64_t> shape;
    // In the file.
    uint64_t offset = 0;
    uint64_t num_bytes = 0;
  };
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;

  // Limits and errors as SafetensorsFile::Open; FAILED_PRECONDITION when the
  // file has changed.
  static absl::StatusOr<SafetensorsHeader> Read(const ForeignFile& file);
};

// A memory-mapped file with its header: for files that nobody changes.
class SafetensorsFile {
 public:
  // A parsed header takes up to 16 times its text: this bounds what a hostile
  // file can make a reader allocate, at 160 bytes for each of kMaxTensors.
  static constexpr uint64_t kMaxHeaderBytes = 16 << 20;
  static constexpr int64_t kMaxTensors = 100000;
  static constexpr int kMaxDimensions = 8;

  // NOT_FOUND without the file; INVALID_ARGUMENT, naming path, tensor, limit
  // and given value, for anything malformed.
  static absl::StatusOr<std::shared_ptr<const SafetensorsFile>> Open(
      const std::string& path);

  // Parses bytes that outlive the result. `what` begins error messages.
  static absl::StatusOr<std::shared_ptr<const SafetensorsFile>> Parse(
      absl::Span<const uint8_t> bytes, absl::string_view what);

  virtual ~SafetensorsFile() = default;

  virtual const std::map<std::string, TensorView>& tensors() const = 0;
  virtual const std::map<std::string, std::string>& metadata() const = 0;
  // Null when there is none of that name.
  const TensorView* Find(const std::string& name) const;
};

// Writes tensors in the order given, straight from their views, to
// `path`.partial, fsyncs that and renames it to `path`. Data begins on a
// 64-byte boundary (the header is padded with spaces): tensors ordered by
// descending element size are aligned for their types when mapped.
// INVALID_ARGUMENT for what the reader would refuse; nothing is left at `path`
// that was not there before unless all was written.
absl::Status WriteSafetensors(
    const std::string& path,
    const std::vector<std::pair<std::string, TensorView>>& tensors,
    const std::map<std::string, std::string>& metadata);

}  // namespace pot

#endif  // POT_ENGINE_CHECKPOINT_SAFETENSORS_H_
