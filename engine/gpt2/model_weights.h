// A GPT-2 in memory, ready to run: immutable, shared by all sequences.
#ifndef POT_ENGINE_GPT2_MODEL_WEIGHTS_H_
#define POT_ENGINE_GPT2_MODEL_WEIGHTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/gpt2/gpt2_config.h"
#include "engine/kernels/kernel_table.h"
#include "engine/kernels/linear.h"
#include "engine/quant/activation.h"

namespace pot {

struct LayerNormWeights {
  std::vector<float> gain;  // (C)
  std::vector<float> bias;  // (C)
};

struct LayerWeights {
  LayerNormWeights ln_1;
  std::unique_ptr<const Linear> attn_c_attn;  // C -> 3C: queries, keys, values
  std::unique_ptr<const Linear> attn_c_proj;  // C -> C
  LayerNormWeights ln_2;
  std::unique_ptr<const Linear> mlp_c_fc;    // C -> n_inner
  std::unique_ptr<const Linear> mlp_c_proj;  // n_inner -> C
};

struct ModelWeights {
  Gpt2Config config;
  const KernelTable* kernels = nullptr;
  std::vector<LayerWeights> layers;
  LayerNormWeights ln_f;
  // The head, C -> V. When tied its rows are also the token embeddings.
  std::unique_ptr<const Linear> head;
  std::unique_ptr<const Linear> token_embedding;  // null when tied
  std::vector<float> position_embedding;          // (T, C)

  // What the weights are stored as: "f32", or the layers' PotFormat.
  std::string format;
  std::string granularity;       // empty with "f32"
  std::string embedding_format;  // of token embedding and head
  std::string base_sha256;       // of the fp32 model a PoT model comes from
  bool quantized = false;

  // Memory that all weights hold, after packing.
  int64_t resident_bytes() const;
};

struct LoadOptions {
  const KernelTable* kernels = nullptr;  // required
  ActivationMode activations = ActivationMode::kAffine;
};

// Loads a model directory: config.json with model.pot.safetensors, or else
// with float weights as Hugging Face ships them. Tensor names may begin with
// "transformer."; attention mask buffers ("attn.bias", "attn.masked_bias") are
// ignored; any other unknown tensor is INVALID_ARGUMENT.
absl::StatusOr<std::unique_ptr<const ModelWeights>> LoadModelWeights(
    const std::string& directory, const LoadOptions& options);

}  // namespace pot

#endif  // POT_ENGINE_GPT2_MODEL_WEIGHTS_H_
