// Every tensor of a GPT-2: the one table that drives load, save, quantize and
// train.
#ifndef POT_ENGINE_GPT2_TENSOR_TABLE_H_
#define POT_ENGINE_GPT2_TENSOR_TABLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/gpt2/gpt2_config.h"

namespace pot {

enum class TensorKind {
  kTokenEmbedding,     // wte (V, C): also the head when tied
  kPositionEmbedding,  // wpe (T, C): stays float
  kLayerNorm,          // gain or bias (C): stays float
  kBias,               // (out): stays float
  kConv1d,             // (in, out), transposed to [out][in] when quantized
  kHead,               // lm_head (V, C), only when not tied
};

struct TensorSpec {
  std::string name;  // without "transformer."; "h.3.attn.c_attn.weight"
  std::vector<int64_t> shape;  // in the Hugging Face file
  TensorKind kind;

  bool quantized() const {
    return kind == TensorKind::kTokenEmbedding || kind == TensorKind::kConv1d ||
           kind == TensorKind::kHead;
  }
  int64_t num_elements() const;
  // Of the matrix y = W x: outputs and inputs. Matrices only.
  int64_t rows() const;
  int64_t cols() const;
};

// wte, wpe, the layers in order, ln_f, and lm_head when it is not tied.
std::vector<TensorSpec> Gpt2Tensors(const Gpt2Config& config);

}  // namespace pot

#endif  // POT_ENGINE_GPT2_TENSOR_TABLE_H_
