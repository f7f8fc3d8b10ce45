// Per-channel equalization: powers of two move from what makes the inputs of a
// product into the product's columns, where they cancel exactly, so that inputs
// that matter get finer weights (after AWQ, arXiv 2306.00978, and SmoothQuant,
// 2211.10438).
//
// With a factor d_k = 2^e_k per input channel k:
//   c_attn      columns times d, ln_1's gain and bias over d
//   c_fc        columns times d, ln_2's gain and bias over d
//   attn.c_proj columns times d, c_attn's rows and biases of V over d:
//               attention mixes positions, not channels
// The MLP's c_proj has no such place: GELU is not linear. The head has none
// either, as its matrix is the embedding's as well.
//
// A product of floats by a power of two is exact unless it leaves the range of
// normal numbers, so every intermediate result is that of before, times a power
// of two, and the model's logits are the same bits (with floats as activations:
// 8-bit ones are quantized anew).
#ifndef POT_TRAINER_PTQ_EQUALIZATION_H_
#define POT_TRAINER_PTQ_EQUALIZATION_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/gpt2/quantize_model.h"
#include "trainer/data/token_corpus.h"
#include "trainer/gpt2/parameter_layout.h"

namespace pot {

struct EqualizedProduct {
  std::string name;      // of the matrix whose columns were scaled
  int64_t channels = 0;  // whose factor is not 1
  // Expected squared error of the product's output, over that of before.
  double error_ratio = 1;
};

struct EqualizationResult {
  std::vector<EqualizedProduct> products;
  // LayerNorms and biases that have changed, by the tensor's name.
  std::map<std::string, std::vector<float>> floats;
};

// Of each product, d_k = 2^round(alpha / 2 log2(m_k / geometric mean of m))
// with the alpha of 0, 1/4 .. 1 that has the least error sum_k m_k sum_n (w_nk
// - q_nk / d_k)^2, q the matrix's columns times d after rounding each weight by
// `options`. m_k, the second moment of input k, is measured on `calibration`,
// in sequences of `context` tokens, with float activations; without it
// (nullptr) it is what the parameters alone say: gain^2 + bias^2 behind a
// LayerNorm, and for V the same through c_attn's rows, as if channels were
// independent.
//
// Factors are within 2^8, those of V, which engines keep as fp16, within 2^4;
// what would not stay exact is left alone. `parameters` are changed. Errors as
// QuantizePot and CalibrationSequences::Create.
absl::StatusOr<EqualizationResult> EqualizeModel(
    const ParameterLayout& layout, const QuantizeModelOptions& options,
    const TokenCorpus* calibration, int64_t context,
    absl::Span<float> parameters, const DataProgress& progress);

}  // namespace pot

#endif  // POT_TRAINER_PTQ_EQUALIZATION_H_
