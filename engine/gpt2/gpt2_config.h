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
  int64_t n_layer = 0;      // L, 1..512
  int64_t n_head = 0;       // divides n_embd
  int64_t n_embd = 0;       // C, 1..65 536
  int64_t n_inner = 0;      // hidden width of the MLP; 4 C unless given
  int64_t n_positions = 0;  // context limit T, 1..1 048 576
  int64_t vocab_size = 0;   // V, 1..1 000 000
  float layer_norm_epsilon = 1e-5f;
  Activation activation = Activation::kGeluTanh;
  bool tie_word_embeddings = true;

  int64_t head_size() const { return n_embd / n_head; }
  // Parameters of the fp32 model, a tied head counted once.
  int64_t num_parameters() const;

  // INVALID_ARGUMENT naming key, limit and given value. Settings that change
  // the arithmetic and are not implemented (scale_attn_by_inverse_layer_idx,
  // reorder_and_upcast_attn is harmless, another activation) are refused.
  static absl::StatusOr<Gpt2Config> Parse(absl::string_view json,
                                          absl::string_view what);
  std::string ToJson() const;
};

}  // namespace pot

#endif  // POT_ENGINE_GPT2_GPT2_CONFIG_H_
