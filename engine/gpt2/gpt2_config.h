#ifndef POT_ENGINE_GPT2_GPT2_CONFIG_H_
#define POT_ENGINE_GPT2_GPT2_CONFIG_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pot {

enum class Activation { kGeluTanh, kGeluErf };  // "gelu_new", "gelu"

// Hyper-parameters of a GPT-2, as in Hugging Face's config.json.
struct Gpt2Config {
  static constexpr int64_t kMaxLayers = 512;
  // Of n_embd and n_inner: the longest row of a PotMatrix.
  static constexpr int64_t kMaxEmbedding = 65536;
  static constexpr int64_t kMaxPositions = int64_t{1} << 20;
  static constexpr int64_t kMaxVocabulary = 1000000;

  int64_t n_layer = 0;      // L
  int64_t n_head = 0;       // divides n_embd
  int64_t n_embd = 0;       // C
  int64_t n_inner = 0;      // hidden width of the MLP; 4 C unless given
  int64_t n_positions = 0;  // context limit T
  int64_t vocab_size = 0;   // V
  float layer_norm_epsilon = 1e-5f;
  Activation activation = Activation::kGeluTanh;
  bool tie_word_embeddings = true;

  int64_t head_size() const { return n_embd / n_head; }
  // Parameters of the fp32 model, a tied head counted once.
  int64_t num_parameters() const;

  // Missing keys take Hugging Face's defaults, unknown ones are ignored.
  // INVALID_ARGUMENT, beginning with `what`, names key, limit and given value.
  // Settings that change the arithmetic and are not implemented (another
  // activation or model_type, scale_attn_weights = false,
  // scale_attn_by_inverse_layer_idx, add_cross_attention) are refused;
  // reorder_and_upcast_attn is not, as attention is fp32 anyway.
  static absl::StatusOr<Gpt2Config> Parse(absl::string_view text,
                                          absl::string_view what);
  std::string ToJson() const;
};

}  // namespace pot

#endif  // POT_ENGINE_GPT2_GPT2_CONFIG_H_
