#include "engine/gpt2/tensor_table.h"

#include "absl/strings/str_cat.h"

namespace pot {

int64_t TensorSpec::num_elements() const {
  int64_t count = 1;
  for (const int64_t length : shape) count *= length;
  return count;
}

int64_t TensorSpec::rows() const {
  return kind == TensorKind::kConv1d ? shape[1] : shape[0];
}

int64_t TensorSpec::cols() const {
  return kind == TensorKind::kConv1d ? shape[0] : shape[1];
}

std::vector<TensorSpec> Gpt2Tensors(const Gpt2Config& config) {
  const int64_t C = config.n_embd;
  std::vector<TensorSpec> tensors;
  const auto add_layer_norm = [&](const std::string& name) {
    tensors.push_back({name + ".weight", {C}, TensorKind::kLayerNorm});
    tensors.push_back({name + ".bias", {C}, TensorKind::kLayerNorm});
  };
  const auto add_conv1d = [&](const std::string& name, int64_t in,
                              int64_t out) {
    tensors.push_back({name + ".weight", {in, out}, TensorKind::kConv1d});
    tensors.push_back({name + ".bias", {out}, TensorKind::kBias});
  };

  tensors.push_back(
      {"wte.weight", {config.vocab_size, C}, TensorKind::kTokenEmbedding});
  tensors.push_back(
      {"wpe.weight", {config.n_positions, C}, TensorKind::kPositionEmbedding});
  for (int64_t layer = 0; layer < config.n_layer; ++layer) {
    const std::string h = absl::StrCat("h.", layer, ".");
    add_layer_norm(h + "ln_1");
    add_conv1d(h + "attn.c_attn", C, 3 * C);
    add_conv1d(h + "attn.c_proj", C, C);
    add_layer_norm(h + "ln_2");
    add_conv1d(h + "mlp.c_fc", C, config.n_inner);
    add_conv1d(h + "mlp.c_proj", config.n_inner, C);
  }
  add_layer_norm("ln_f");
  if (!config.tie_word_embeddings) {
    tensors.push_back(
        {"lm_head.weight", {config.vocab_size, C}, TensorKind::kHead});
  }
  return tensors;
}

}  // namespace pot
