// Any bytes as a safetensors file and as an exponent checkpoint: refused, or
// read to the last value, within their bounds.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "absl/types/span.h"
#include "engine/checkpoint/exponent_checkpoint.h"
#include "engine/checkpoint/float_tensor.h"
#include "engine/checkpoint/safetensors.h"

namespace pot {
namespace {

void ReadTensors(const SafetensorsFile& file) {
  for (const auto& [name, view] : file.tensors()) {
    const auto expected =
        static_cast<size_t>(view.num_elements() * TensorTypeBytes(view.type));
    if (view.bytes.size() != expected) std::abort();
    const auto floats = WidenToFloats(view, view.shape, "tensor");
    if (floats.ok() &&
        floats->size() != static_cast<size_t>(view.num_elements())) {
      std::abort();
    }
  }
}

void ReadMatrices(const ExponentCheckpoint& checkpoint,
                  const SafetensorsFile& file) {
  for (const auto& [name, view] : file.tensors()) {
    if (checkpoint.HasFloats(name)) {
      checkpoint.ReadFloats(name, view.shape).status().IgnoreError();
    }
    // Matrix() wants the shape that the caller expects: the codes' rows, and
    // the columns of any width that fits their bytes.
    const size_t suffix = name.rfind(".codes");
    if (suffix == std::string::npos || view.shape.size() != 2) continue;
    for (int64_t cols = 1; cols <= 4 * view.shape[1] && cols <= 512; ++cols) {
      const auto matrix =
          checkpoint.Matrix(name.substr(0, suffix), view.shape[0], cols);
      if (!matrix.ok()) continue;
      std::vector<float> weights(static_cast<size_t>(cols));
      for (int64_t row = 0; row < matrix->rows(); ++row) {
        matrix->DequantizeRow(row, absl::MakeSpan(weights));
      }
    }
  }
}

}  // namespace
}  // namespace pot

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::Span<const uint8_t> bytes(data, size);
  const auto file = pot::SafetensorsFile::Parse(bytes, "fuzz");
  const auto checkpoint = pot::ExponentCheckpoint::Parse(bytes, "fuzz");
  if (checkpoint.ok() && !file.ok()) std::abort();
  if (file.ok()) pot::ReadTensors(**file);
  if (checkpoint.ok()) pot::ReadMatrices(**checkpoint, **file);
  return 0;
}
