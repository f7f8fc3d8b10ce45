#include "engine/checkpoint/float_tensor.h"

#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/half.h"

namespace pot {
namespace {

template <float (*kWiden)(uint16_t)>
void Widen(absl::Span<const uint8_t> bytes, std::vector<float>* floats) {
  for (size_t i = 0; i < floats->size(); ++i) {
    uint16_t bits;
    std::memcpy(&bits, bytes.data() + 2 * i, sizeof(bits));
    (*floats)[i] = kWiden(bits);
  }
}

}  // namespace

std::string IndexString(int64_t flat, absl::Span<const int64_t> shape) {
  std::vector<int64_t> index(shape.size());
  for (size_t d = shape.size(); d-- > 0;) {
    index[d] = flat % shape[d];
    flat /= shape[d];
  }
  return ShapeString(index);
}

absl::StatusOr<std::vector<float>> WidenToFloats(
    const TensorView& view, absl::Span<const int64_t> shape,
    absl::string_view what) {
  if (view.shape != shape) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": shape ", ShapeString(view.shape), ", expected ",
                     ShapeString(shape)));
  }
  if (view.type != TensorType::kF32 && view.type != TensorType::kF16 &&
      view.type != TensorType::kBF16) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": type ", TensorTypeName(view.type),
                     ", expected F32, F16 or BF16"));
  }
  std::vector<float> floats(static_cast<size_t>(view.num_elements()));
  if (view.type == TensorType::kF16) {
    Widen<HalfBitsToFloat>(view.bytes, &floats);
  } else if (view.type == TensorType::kBF16) {
    Widen<Bfloat16BitsToFloat>(view.bytes, &floats);
  } else if (!floats.empty()) {
    std::memcpy(floats.data(), view.bytes.data(), view.bytes.size());
  }
  for (size_t i = 0; i < floats.size(); ++i) {
    if (!std::isfinite(floats[i])) {
      return absl::InvalidArgumentError(absl::StrCat(
          what, ": value ", floats[i], " at index ",
          IndexString(static_cast<int64_t>(i), shape), " is not finite"));
    }
  }
  return floats;
}

}  // namespace pot
