// A float model's parameters, which become those of its quantized tensors one
// after the other.
#ifndef POT_TRAINER_PTQ_QUANTIZED_PARAMETERS_H_
#define POT_TRAINER_PTQ_QUANTIZED_PARAMETERS_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "engine/base/half.h"
#include "engine/quant/pot_matrix.h"
#include "trainer/gpt2/parameter_layout.h"
#include "trainer/ptq/dequantize.h"

namespace pot {

// The products of a layer, in the order of Trunk's observer.
inline constexpr const char* kLayerProducts[] = {"attn.c_attn", "attn.c_proj",
                                                 "mlp.c_fc", "mlp.c_proj"};

class QuantizedParameters {
 public:
  // `values[layout.size()]`; both outlive this.
  QuantizedParameters(const ParameterLayout& layout, absl::Span<float> values)
      : layout_(layout),
        values_(values),
        view_(ViewParameters<const float>(layout, values.data())) {}

  const ParameterLayout& layout() const { return layout_; }
  const TensorSpec& tensor(int index) const { return layout_.tensors()[index]; }
  absl::Span<const float> values() const { return values_; }
  // Of tensor `index`.
  absl::Span<float> Values(int index) const {
    return values_.subspan(layout_.offset(index), tensor(index).num_elements());
  }
  const ModelParameters<const float>& View() const { return view_; }

  // Of the weights of a layer's product, 0 to 3.
  int ProductIndex(int64_t layer, int product) const {
    return layout_.Find(
        absl::StrCat("h.", layer, ".", kLayerProducts[product], ".weight"));
  }

  absl::Span<float> ProductValues(int64_t layer, int product) const {
    return Values(ProductIndex(layer, product));
  }

  // Tensor `index` becomes `matrix`.
  void Store(int index, PotMatrix matrix) {
    Dequantize(matrix, Values(index));
    matrices_.emplace(tensor(index).name, std::move(matrix));
  }

  // Position embeddings become fp16 numbers.
  void HalvePositions() const {
    for (float& value : Values(layout_.Find("wpe.weight"))) {
      value = HalfBitsToFloat(FloatToHalfBits(value));
    }
  }

  // Those that were stored, by the tensor's name.
  std::map<std::string, PotMatrix> TakeMatrices() {
    return std::move(matrices_);
  }

 private:
  const ParameterLayout& layout_;
  const absl::Span<float> values_;
  const ModelParameters<const float> view_;
  std::map<std::string, PotMatrix> matrices_;
};

}  // namespace pot

#endif  // POT_TRAINER_PTQ_QUANTIZED_PARAMETERS_H_
