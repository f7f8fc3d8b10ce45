// PoTPTQ's step 2 (arXiv 2507.11959) for a GPT-2: block by block, the scales of
// a layer's matrices are trained so that the layer, on the inputs that the
// model computes once everything before it is quantized, puts out what the
// float layer would.
#ifndef POT_TRAINER_PTQ_POTPTQ_MODEL_H_
#define POT_TRAINER_PTQ_POTPTQ_MODEL_H_

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
#include "trainer/quantization/activation_fake_quantizer.h"

namespace pot {

struct PotPtqOptions {
  // Over the calibration text; 0: 10, or 40 for matrices of 2 bits, as in the
  // paper. [0, 10000].
  int64_t epochs = 0;
  // Of AdamW, constant. (0, 1].
  double learning_rate = 1e-3;
  // The paper's lambda / 2 |Gamma|^2, as AdamW's decoupled weight decay. [0,
  // 10].
  double lambda = 0.1;
};

struct PotPtqModelOptions {
  QuantizeModelOptions model;  // of any mode
  PotPtqOptions potptq;
  // Of the inputs, as the engine will quantize them.
  ActivationFakeQuantization activations = ActivationFakeQuantization::kAffine;
  // Tokens of a calibration sequence, at most n_positions.
  int64_t context = 0;
  // Called when a layer's parameters are not needed for now. May be null.
  std::function<void(int64_t layer)> release_layer;
};

struct PotPtqModelResult {
  // By the tensor's name: all that QuantizeModel would quantize. Embedding and
  // head are rounded under the scales that their mode chooses.
  std::map<std::string, PotMatrix> matrices;
  // Squared error of each layer's output after training over that before it; 1
  // where training did not help, and its scales were left.
  std::vector<double> error_ratios;
};

// INVALID_ARGUMENT, naming the limit, for options outside their range.
absl::Status CheckPotPtqOptions(const PotPtqOptions& options);

// `parameters` are those of the float model and end as the quantized ones.
// `calibration` is cut into sequences of `context` tokens;
// INVALID_ARGUMENT when it holds none. `progress(done, total)` in steps;
// returning false makes the result CANCELLED. Memory: twice the residual stream
// of all calibration tokens, and a layer's gradients and moments.
absl::StatusOr<PotPtqModelResult> QuantizeModelPotPtq(
    const ParameterLayout& layout, const TokenCorpus& calibration,
    const PotPtqModelOptions& options, absl::Span<float> parameters,
    const DataProgress& progress);

}  // namespace pot

#endif  // POT_TRAINER_PTQ_POTPTQ_MODEL_H_
