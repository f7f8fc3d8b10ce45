// GPTQ for all matrices of a GPT-2, one product after the other, each with the
// inputs that the model computes once everything before it is quantized. For
// the embedding, which multiplies nothing, the second moments of its inputs are
// replaced by the loss's Fisher information (embedding_fisher.h), also where it
// is the head's matrix as well.
#ifndef POT_TRAINER_PTQ_GPTQ_MODEL_H_
#define POT_TRAINER_PTQ_GPTQ_MODEL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/gpt2/quantize_model.h"
#include "engine/quant/pot_matrix.h"
#include "trainer/data/token_corpus.h"
#include "trainer/gpt2/parameter_layout.h"
#include "trainer/ptq/gptq.h"
#include "trainer/quantization/activation_fake_quantizer.h"

namespace pot {

struct GptqModelOptions {
  QuantizeModelOptions model;
  GptqOptions gptq;
  // Of the inputs, as the engine will quantize them.
  ActivationFakeQuantization activations = ActivationFakeQuantization::kAffine;
  // Biases take up the mean of what rounding does to their product's output,
  // and the Hessian is that of the inputs less their mean: the least error over
  // codes and bias together.
  bool correct_biases = true;
  // Tokens of a calibration sequence, at most n_positions.
  int64_t context = 0;
  // Called when a layer's parameters are not needed for now. May be null.
  std::function<void(int64_t layer)> release_layer;
};

struct GptqModelResult {
  // By the tensor's name; `floats` has the biases that were changed.
  std::map<std::string, PotMatrix> matrices;
  std::map<std::string, std::vector<float>> floats;
  double largest_damping = 0;
};

// `parameters` are those of the float model and end as the quantized ones.
// `calibration` is cut into sequences of `context` tokens; INVALID_ARGUMENT
// when it holds none. `progress(done, total)` in products; returning false
// makes the result CANCELLED. Memory: the residual stream of all calibration
// tokens, 20 bytes for each element of the largest Hessian, EmbeddingFisher's.
absl::StatusOr<GptqModelResult> QuantizeModelGptq(
    const ParameterLayout& layout, const TokenCorpus& calibration,
    const GptqModelOptions& options, absl::Span<float> parameters,
    const DataProgress& progress);

}  // namespace pot

#endif  // POT_TRAINER_PTQ_GPTQ_MODEL_H_
