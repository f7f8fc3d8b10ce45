// Fake quantization of a whole GPT-2: every tensor that QuantizeModel would
// quantize, and the rounding of position embeddings to F16.
#ifndef POT_TRAINER_QUANTIZATION_MODEL_FAKE_QUANTIZER_H_
#define POT_TRAINER_QUANTIZATION_MODEL_FAKE_QUANTIZER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/checkpoint/exponent_checkpoint.h"
#include "engine/gpt2/gpt2_config.h"
#include "engine/gpt2/tensor_table.h"
#include "trainer/quantization/state_tensors.h"
#include "trainer/quantization/weight_fake_quantizer.h"

namespace pot {

struct ModelFakeQuantizeOptions {
  FakeQuantizeOptions layers;     // the four matrices of every layer
  FakeQuantizeOptions embedding;  // token embedding and head
  // Position embeddings are F16 in the exported file, so the forward pass sees
  // them rounded; their gradient passes straight through.
  bool half_positions = true;
};

// Parameters, effective parameters and gradients are flat buffers of one
// layout: the tensors of Gpt2Tensors(config), each at its offset, matrices as
// [outputs][inputs] (kConv1d transposed). Not thread-safe; its loops run on
// OpenMP's threads.
class ModelFakeQuantizer {
 public:
  // `offsets[i]` is where tensor i of Gpt2Tensors(config) begins in buffers of
  // `size` elements. INVALID_ARGUMENT, naming the tensor, when they overlap or
  // do not fit, or for options that WeightFakeQuantizer refuses.
  static absl::StatusOr<std::unique_ptr<ModelFakeQuantizer>> Create(
      const Gpt2Config& config, std::vector<int64_t> offsets, int64_t size,
      const ModelFakeQuantizeOptions& options);

  // All tensors: quantized ones rounded, positions as F16, the others copied.
  // Elements between tensors are not touched.
  void Forward(absl::Span<const float> parameters, absl::Span<float> effective);

  // gradients[size], of the effective parameters, become those of the
  // parameters; those of the log-scales are added to. `parameters` as in the
  // last Forward. Once per optimizer step, after the last micro-batch.
  void Backward(absl::Span<const float> parameters,
                absl::Span<float> gradients);

  // Learned scales of all matrices in the table's order, for the optimizer;
  // empty when none are learned. The first Forward sets the values. The caller
  // clears the gradients.
  absl::Span<float> log_scales() { return absl::MakeSpan(log_scales_); }
  absl::Span<float> log_scale_gradients() {
    return absl::MakeSpan(log_scale_gradients_);
  }

  // As WeightFakeQuantizer's, for every matrix.
  void RequestSearch();
  void FreezeCodes(absl::Span<const float> parameters);
  bool frozen() const;

  // Writes config.json, the tokenizer's files (`files`, as ReadModelFiles gives
  // them) and the exponent checkpoint into the existing `directory`, in the
  // form QuantizeModel writes them. What is read back equals the effective
  // parameters of the last Forward, bit for bit, if `parameters` are the same.
  // Errors as WeightFakeQuantizer::Export, with the tensor's name, and the
  // file's.
  absl::Status Export(absl::Span<const float> parameters,
                      const std::map<std::string, std::string>& files,
                      const CheckpointProvenance& provenance,
                      const std::string& directory) const;

  // Everything that Forward and Backward depend on besides the parameters:
  // tensors named "quantizer.<tensor>.<what>".
  StateTensors State() const;
  // INVALID_ARGUMENT names a tensor that is missing or does not fit; the object
  // is then half restored and must not be used.
  absl::Status Restore(const TensorMap& tensors);

  // Of tensor i of the table; null when it is not quantized.
  const WeightFakeQuantizer* quantizer(int tensor) const;

 private:
  struct Tensor {
    TensorSpec spec;
    int64_t offset = 0;
    int quantizer = -1;  // index, or -1
  };

  ModelFakeQuantizer() = default;

  bool half_positions_ = true;
  std::vector<Tensor> tensors_;
  std::vector<WeightFakeQuantizer> quantizers_;
  std::vector<float> log_scales_;
  std::vector<float> log_scale_gradients_;
};

}  // namespace pot

#endif  // POT_TRAINER_QUANTIZATION_MODEL_FAKE_QUANTIZER_H_
