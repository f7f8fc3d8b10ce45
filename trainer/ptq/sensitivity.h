// What the model loses when one of its matrices alone is quantized.
#ifndef POT_TRAINER_PTQ_SENSITIVITY_H_
#define POT_TRAINER_PTQ_SENSITIVITY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/gpt2/quantize_model.h"
#include "engine/quant/pot_format.h"
#include "trainer/data/token_corpus.h"
#include "trainer/gpt2/parameter_layout.h"
#include "trainer/ptq/bit_allocation.h"

namespace pot {

struct TensorSensitivity {
  std::string name;
  int64_t weights = 0;
  // For each of the formats: bits with scales, and mean KL(float model || model
  // with this matrix quantized) in nats over the predictions.
  std::vector<FormatCost> formats;
};

// For every quantized tensor of the table, rounded by itself as `options` say
// but for the format. Activations are floats, products fp32. `parameters` are
// the float model's and end unchanged. `text` is cut into windows of `context`
// tokens; INVALID_ARGUMENT with fewer than two tokens. `progress(done, total)`
// in evaluations; returning false makes the result CANCELLED.
absl::StatusOr<std::vector<TensorSensitivity>> MeasureSensitivity(
    const ParameterLayout& layout, const TokenCorpus& text, int64_t context,
    const QuantizeModelOptions& options,
    const std::vector<const PotFormat*>& formats,
    std::vector<float>* parameters, const DataProgress& progress);

}  // namespace pot

#endif  // POT_TRAINER_PTQ_SENSITIVITY_H_
