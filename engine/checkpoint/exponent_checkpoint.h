// The file of exponents: quantized matrices, and the few float tensors beside
// them, in one safetensors file that is the same on every CPU. README.md of
// this folder is the format's document.
#ifndef POT_ENGINE_CHECKPOINT_EXPONENT_CHECKPOINT_H_
#define POT_ENGINE_CHECKPOINT_EXPONENT_CHECKPOINT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/quant/pot_matrix.h"

namespace pot {

// Where a checkpoint comes from. Every field is free text for a reader, but
// base_sha256, which is empty or 64 hexadecimal digits.
struct CheckpointProvenance {
  std::string base_sha256;   // TensorSource::Digest() of the fp32 model
  std::string quantizer;     // "paper", "nearest", "qat", ..
  std::string tool_version;  // "pot 0.1.0"
};

// Name of the file in a model directory.
inline constexpr char kExponentCheckpointFile[] = "model.pot.safetensors";

class ExponentCheckpointWriter {
 public:
  virtual ~ExponentCheckpointWriter() = default;
  static std::unique_ptr<ExponentCheckpointWriter> Create();

  // The matrix is [outputs][inputs] whatever the float file's order was.
  virtual void AddMatrix(std::string name, PotMatrix matrix) = 0;
  // Stored as F32, or rounded to F16.
  virtual void AddFloats(std::string name, std::vector<int64_t> shape,
                         std::vector<float> values, bool half) = 0;
  // As WriteSafetensors. INVALID_ARGUMENT also for a name given twice and for
  // a float that is not finite as it would be stored.
  virtual absl::Status Write(const std::string& path,
                             const CheckpointProvenance& provenance) = 0;
};

class ExponentCheckpoint {
 public:
  // Maps and checks the file: format version, every code matrix with its
  // scales and description. INVALID_ARGUMENT names path and tensor. The values
  // of float tensors are checked when they are read.
  static absl::StatusOr<std::shared_ptr<const ExponentCheckpoint>> Open(
      const std::string& path);
  // The same from bytes that outlive the result and its matrices. `what`
  // begins error messages.
  static absl::StatusOr<std::shared_ptr<const ExponentCheckpoint>> Parse(
      absl::Span<const uint8_t> bytes, absl::string_view what);

  virtual ~ExponentCheckpoint() = default;

  virtual const CheckpointProvenance& provenance() const = 0;
  virtual std::vector<std::string> matrix_names() const = 0;
  virtual std::vector<std::string> float_names() const = 0;
  virtual bool HasMatrix(absl::string_view name) const = 0;
  virtual bool HasFloats(absl::string_view name) const = 0;

  // A view into the mapping, which it keeps alive. NOT_FOUND, or
  // INVALID_ARGUMENT for another shape.
  virtual absl::StatusOr<PotMatrix> Matrix(absl::string_view name, int64_t rows,
                                           int64_t cols) const = 0;
  virtual absl::StatusOr<std::vector<float>> ReadFloats(
      absl::string_view name, absl::Span<const int64_t> shape) const = 0;
};

}  // namespace pot

#endif  // POT_ENGINE_CHECKPOINT_EXPONENT_CHECKPOINT_H_
