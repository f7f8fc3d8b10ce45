#include "engine/checkpoint/float_tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/half.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

template <float (*kWiden)(uint16_t)>
void WidenHalves(absl::Span<const uint8_t> bytes, float* floats) {
  for (size_t i = 0; i < bytes.size() / 2; ++i) {
    uint16_t bits;
    std::memcpy(&bits, bytes.data() + 2 * i, sizeof(bits));
    floats[i] = kWiden(bits);
  }
}

// Bytes of whole values, of a type that CheckFloats() accepts.
void Widen(TensorType type, absl::Span<const uint8_t> bytes, float* floats) {
  if (bytes.empty()) return;
  if (type == TensorType::kF16) {
    WidenHalves<HalfBitsToFloat>(bytes, floats);
  } else if (type == TensorType::kBF16) {
    WidenHalves<Bfloat16BitsToFloat>(bytes, floats);
  } else {
    std::memcpy(floats, bytes.data(), bytes.size());
  }
}

absl::Status CheckFloats(TensorType type, absl::Span<const int64_t> given,
                         absl::Span<const int64_t> expected,
                         absl::string_view what) {
  if (given != expected) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": shape ", ShapeString(given), ", expected ",
                     ShapeString(expected)));
  }
  if (type != TensorType::kF32 && type != TensorType::kF16 &&
      type != TensorType::kBF16) {
    return absl::InvalidArgumentError(absl::StrCat(
        what, ": type ", TensorTypeName(type), ", expected F32, F16 or BF16"));
  }
  return absl::OkStatus();
}

absl::Status CheckFinite(const std::vector<float>& floats,
                         absl::Span<const int64_t> shape,
                         absl::string_view what) {
  for (size_t i = 0; i < floats.size(); ++i) {
    if (!std::isfinite(floats[i])) {
      return absl::InvalidArgumentError(absl::StrCat(
          what, ": value ", floats[i], " at index ",
          IndexString(static_cast<int64_t>(i), shape), " is not finite"));
    }
  }
  return absl::OkStatus();
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
  POT_RETURN_IF_ERROR(CheckFloats(view.type, view.shape, shape, what));
  std::vector<float> floats(static_cast<size_t>(view.num_elements()));
  Widen(view.type, view.bytes, floats.data());
  POT_RETURN_IF_ERROR(CheckFinite(floats, shape, what));
  return floats;
}

absl::StatusOr<std::vector<float>> ReadFloatTensor(
    const ForeignFile& file, const SafetensorsHeader::Tensor& tensor,
    absl::Span<const int64_t> shape, absl::string_view what) {
  POT_RETURN_IF_ERROR(CheckFloats(tensor.type, tensor.shape, shape, what));
  const uint64_t value_bytes = TensorTypeBytes(tensor.type);
  std::vector<float> floats(tensor.num_bytes / value_bytes);
  std::vector<uint8_t> piece;
  for (uint64_t done = 0; done < tensor.num_bytes; done += piece.size()) {
    constexpr uint64_t kPieceBytes = 1 << 20;
    piece.resize(std::min(kPieceBytes, tensor.num_bytes - done));
    POT_RETURN_IF_ERROR(
        file.ReadAt(tensor.offset + done, absl::MakeSpan(piece)));
    Widen(tensor.type, piece, floats.data() + done / value_bytes);
  }
  POT_RETURN_IF_ERROR(CheckFinite(floats, shape, what));
  return floats;
}

}  // namespace pot
