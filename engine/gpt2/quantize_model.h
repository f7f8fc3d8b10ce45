// From a Hugging Face model directory to a PoT model directory.
#ifndef POT_ENGINE_GPT2_QUANTIZE_MODEL_H_
#define POT_ENGINE_GPT2_QUANTIZE_MODEL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/thread_pool.h"
#include "engine/gpt2/tensor_table.h"
#include "engine/quant/pot_quantizer.h"

namespace pot {

struct QuantizeModelOptions {
  QuantizeOptions layers;     // the four matrices of every layer
  QuantizeOptions embedding;  // token embedding and head
  // Formats of single matrices, by the tensor's name, in place of those above.
  std::map<std::string, const PotFormat*> formats;
  // Position embeddings as F16 (F32 otherwise).
  bool half_positions = true;
  // Asked after every progress; true ends the work as CANCELLED. May be empty.
  std::function<bool()> cancelled;
  // What was quantized elsewhere, with the formats and granularities above, and
  // floats that take the place of the model's, by the tensor's name.
  // `quantizer` says how, for the file's provenance; empty: by this.
  const std::map<std::string, PotMatrix>* matrices = nullptr;
  const std::map<std::string, std::vector<float>>* floats = nullptr;
  std::string quantizer;

  // How a quantized tensor of the table is.
  QuantizeOptions For(const TensorSpec& tensor) const;
};

struct QuantizeModelReport {
  int64_t parameters = 0;
  int64_t float_bytes = 0;  // 4 bytes per parameter
  int64_t code_bytes = 0;   // packed codes
  int64_t scale_bytes = 0;
  int64_t outlier_bytes = 0;
  int64_t other_bytes = 0;  // biases, LayerNorm, positions
  // Codes, scales and outliers over quantized weights.
  double bits_per_weight = 0;

  int64_t stored_bytes() const {
    return code_bytes + scale_bytes + outlier_bytes + other_bytes;
  }
};

// Reads the float model in `from` and writes config.json, the tokenizer's
// files and the exponent checkpoint into the existing directory `to`; no
// manifest. `progress(done, total)` in weights. FAILED_PRECONDITION when the
// weights in `from` are changed meanwhile.
absl::StatusOr<QuantizeModelReport> QuantizeModel(
    const std::string& from, const std::string& to,
    const QuantizeModelOptions& options, ThreadPool* pool,
    const std::function<void(int64_t, int64_t)>& progress);

// Copies a float model's config, tokenizer and safetensors files, checked by
// reading every tensor, into `to`. FAILED_PRECONDITION when the weights in
// `from` are changed meanwhile.
absl::Status CopyFloatModel(const std::string& from, const std::string& to);

}  // namespace pot

#endif  // POT_ENGINE_GPT2_QUANTIZE_MODEL_H_
