#include "trainer/quantization/state_tensors.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/quote.h"

namespace pot {

void AppendStateBytes(std::string name, TensorType type,
                      std::vector<int64_t> shape, absl::Span<const uint8_t> raw,
                      StateTensors* state) {
  state->emplace_back(std::move(name), TensorView{type, std::move(shape), raw});
}

absl::Status ReadStateBytes(const TensorMap& tensors, const std::string& name,
                            TensorType type, absl::Span<const int64_t> shape,
                            absl::Span<uint8_t> raw) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the snapshot has no tensor ", Quote(name)));
  }
  const TensorView& view = found->second;
  if (view.type != type || absl::MakeConstSpan(view.shape) != shape ||
      view.bytes.size() != raw.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the snapshot's tensor ", Quote(name), " is ",
        TensorTypeName(view.type), " ", ShapeString(view.shape), "; expected ",
        TensorTypeName(type), " ", ShapeString(shape)));
  }
  std::copy(view.bytes.begin(), view.bytes.end(), raw.begin());
  return absl::OkStatus();
}

}  // namespace pot
