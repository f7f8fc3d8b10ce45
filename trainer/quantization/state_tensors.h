// Named tensors of a snapshot.
#ifndef POT_TRAINER_QUANTIZATION_STATE_TENSORS_H_
#define POT_TRAINER_QUANTIZATION_STATE_TENSORS_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/checkpoint/safetensors.h"

namespace pot {

// They view memory of the object that lists them, and are valid until it is
// next used or moved. In the form that WriteSafetensors takes.
using StateTensors = std::vector<std::pair<std::string, TensorView>>;

// As SafetensorsFile::tensors().
using TensorMap = std::map<std::string, TensorView>;

void AppendStateBytes(std::string name, TensorType type,
                      std::vector<int64_t> shape, absl::Span<const uint8_t> raw,
                      StateTensors* state);

// Fills `raw` from the tensor of that name, type and shape. INVALID_ARGUMENT,
// naming it, when it is missing or another.
absl::Status ReadStateBytes(const TensorMap& tensors, const std::string& name,
                            TensorType type, absl::Span<const int64_t> shape,
                            absl::Span<uint8_t> raw);

// The same for values of the type that `type` names.
template <typename T>
void AppendState(std::string name, TensorType type, std::vector<int64_t> shape,
                 absl::Span<const T> values, StateTensors* state) {
  AppendStateBytes(
      std::move(name), type, std::move(shape),
      absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(values.data()),
                          values.size() * sizeof(T)),
      state);
}

template <typename T>
absl::Status ReadState(const TensorMap& tensors, const std::string& name,
                       TensorType type, absl::Span<const int64_t> shape,
                       absl::Span<T> values) {
  return ReadStateBytes(
      tensors, name, type, shape,
      absl::MakeSpan(reinterpret_cast<uint8_t*>(values.data()),
                     values.size() * sizeof(T)));
}

}  // namespace pot

#endif  // POT_TRAINER_QUANTIZATION_STATE_TENSORS_H_
