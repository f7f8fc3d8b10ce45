// Where each tensor of a GPT-2 lies in one flat buffer of parameters: weights,
// gradients, Adam's moments and fake-quantized weights all have this layout.
#ifndef POT_TRAINER_GPT2_PARAMETER_LAYOUT_H_
#define POT_TRAINER_GPT2_PARAMETER_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/gpt2/gpt2_config.h"
#include "engine/gpt2/tensor_table.h"

namespace pot {

class FloatModel;

// Matrices are [outputs][inputs], also those that the Hugging Face file holds
// as (in, out): y = x W^T everywhere.
class ParameterLayout {
 public:
  // Offsets of tensors are multiples of this many elements.
  static constexpr int64_t kAlignment = 16;

  explicit ParameterLayout(const Gpt2Config& config);

  const Gpt2Config& config() const { return config_; }
  const std::vector<TensorSpec>& tensors() const { return tensors_; }
  // Of tensors()[index].
  int64_t offset(int index) const { return offsets_[index]; }
  // Elements of the buffer, gaps included. Gaps hold zeros.
  int64_t size() const { return size_; }

  // Index of the tensor with that name, which must exist.
  int Find(const std::string& name) const;

  // Reads the float model of `directory` (config.json, model.safetensors) into
  // parameters[size()]. FAILED_PRECONDITION when its configuration is another.
  absl::Status Read(const std::string& directory,
                    absl::Span<float> parameters) const;

  // Reads tensor `index` of `model`, which must be of the same configuration,
  // into its place in parameters[size()].
  absl::Status ReadTensor(const FloatModel& model, int index,
                          absl::Span<float> parameters) const;

  // Writes config.json and model.safetensors, as Hugging Face ships them, into
  // the existing `directory`.
  absl::Status Write(const std::string& directory,
                     absl::Span<const float> parameters) const;

 private:
  Gpt2Config config_;
  std::vector<TensorSpec> tensors_;
  std::vector<int64_t> offsets_;
  int64_t size_ = 0;
};

// Parameters of one layer, or their gradients: pointers into a flat buffer.
template <typename T>
struct LayerParameters {
  T *ln1_gain, *ln1_bias;  // (C)
  T *attn_w, *attn_b;      // (3C, C), (3C)
  T *proj_w, *proj_b;      // (C, C), (C)
  T *ln2_gain, *ln2_bias;  // (C)
  T *fc_w, *fc_b;          // (I, C), (I)
  T *mlp_w, *mlp_b;        // (C, I), (C)
};

template <typename T>
struct ModelParameters {
  T* wte;  // (V, C)
  T* wpe;  // (P, C)
  std::vector<LayerParameters<T>> layers;
  T *lnf_gain, *lnf_bias;  // (C)
  T* head;                 // (V, C); wte when tied
};

// Views into buffer[layout.size()].
template <typename T>
ModelParameters<T> ViewParameters(const ParameterLayout& layout, T* buffer);

}  // namespace pot

#endif  // POT_TRAINER_GPT2_PARAMETER_LAYOUT_H_
