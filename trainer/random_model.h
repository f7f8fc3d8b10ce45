// GPT-2s with random weights, in Hugging Face's layout: for measuring speed and
// memory at real shapes without real weights.
#ifndef POT_TRAINER_RANDOM_MODEL_H_
#define POT_TRAINER_RANDOM_MODEL_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/gpt2/gpt2_config.h"
#include "engine/gpt2/tensor_table.h"
#include "trainer/gpt2/parameter_layout.h"

namespace pot {

// "gpt2" (124M), "gpt2-medium", "gpt2-large", "gpt2-xl" of Radford et al. 2019,
// or "nano": 4 layers, 4 heads, 128 wide, context 64. INVALID_ARGUMENT, listing
// them, for any other.
absl::StatusOr<Gpt2Config> NamedGpt2Config(absl::string_view size);

// GPT-2's initialisation of tensor number `index` of a model: standard
// deviation 0.02, by 1/sqrt(2 n_layer) less in the projections that end a
// residual branch, LayerNorm 1 and 0, biases 0. The same seed gives the same
// bits everywhere.
std::vector<float> RandomTensor(const TensorSpec& spec, int index,
                                int64_t n_layer, uint64_t seed);

// All of them, in the layout that training uses.
std::vector<float> RandomParameters(const ParameterLayout& layout,
                                    uint64_t seed);

// Writes config.json, model.safetensors (F32), vocab.json and merges.txt into
// the existing directory. Weights are RandomTensor's. The tokenizer has the 256
// bytes, then pairs of bytes, and "<|endoftext|>" last. The same seed gives the
// same bytes everywhere. `progress(done, total)` in weights.
absl::Status WriteRandomModel(
    const Gpt2Config& config, uint64_t seed, const std::string& directory,
    const std::function<void(int64_t, int64_t)>& progress);

}  // namespace pot

#endif  // POT_TRAINER_RANDOM_MODEL_H_
