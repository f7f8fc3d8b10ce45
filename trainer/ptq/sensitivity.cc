#include "trainer/ptq/sensitivity.h"

#include <algorithm>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "engine/base/status_macros.h"
#include "engine/quant/pot_quantizer.h"
#include "trainer/gpt2/objective.h"
#include "trainer/ptq/dequantize.h"
#include "trainer/training/evaluate_text.h"

namespace pot {
absl::StatusOr<std::vector<TensorSensitivity>> MeasureSensitivity(
    const ParameterLayout& layout, const TokenCorpus& text, int64_t context,
    const QuantizeModelOptions& options,
    const std::vector<const PotFormat*>& formats,
    std::vector<float>* parameters, const DataProgress& progress) {
  if (text.size() < 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the calibration text has ", text.size(), " tokens; 2 is the least"));
  }
  // The teacher's, which stay as they are.
  const std::vector<float> original = *parameters;
  POT_ASSIGN_OR_RETURN(
      const std::unique_ptr<Objective<float>> objective,
      Objective<float>::Create(&layout, TrunkOptions{}, Precision::kF32,
                               nullptr, &layout, original));
  LossOptions loss;
  loss.cross_entropy_weight = 0;
  loss.distillation_weight = 1;
  const EvaluationProtocol protocol{context, context};

  std::vector<TensorSensitivity> sensitivities;
  const auto is_quantized = [](const TensorSpec& t) { return t.quantized(); };
  const auto& tensors = layout.tensors();
  const int64_t total =
      std::count_if(tensors.begin(), tensors.end(), is_quantized) *
      static_cast<int64_t>(formats.size());
  int64_t done = 0;
  for (size_t index = 0; index < tensors.size(); ++index) {
    const TensorSpec& tensor = tensors[index];
    if (!tensor.quantized()) continue;
    TensorSensitivity sensitivity;
    sensitivity.name = tensor.name;
    sensitivity.weights = tensor.num_elements();
    const int64_t offset = layout.offset(static_cast<int>(index));
    const absl::Span<const float> weights =
        absl::MakeConstSpan(original).subspan(offset, tensor.num_elements());
    for (const PotFormat* const format : formats) {
      QuantizeOptions quantize = options.For(tensor);
      quantize.format = format;
      POT_ASSIGN_OR_RETURN(
          const PotMatrix matrix,
          QuantizePot(weights, tensor.rows(), tensor.cols(), quantize));
      Dequantize(
          matrix,
          absl::MakeSpan(*parameters).subspan(offset, tensor.num_elements()));
      objective->SetParameters(*parameters);
      const absl::StatusOr<LossSums> sums =
          EvaluateText(text, protocol, -1, nullptr, objective.get(), loss);
      std::copy(weights.begin(), weights.end(), parameters->begin() + offset);
      POT_RETURN_IF_ERROR(sums.status());
      sensitivity.formats.push_back(
          {8.0 * static_cast<double>(matrix.stored_bytes()),
           sums->kl / static_cast<double>(sums->predictions)});
      if (progress != nullptr && !progress(++done, total)) {
        return absl::CancelledError("measuring was cancelled");
      }
    }
    sensitivities.push_back(std::move(sensitivity));
  }
  return sensitivities;
}

}  // namespace pot
