// A GPT-2 on disk as Hugging Face ships it: what loading, quantizing and
// copying have in common.
#ifndef POT_ENGINE_GPT2_FLOAT_MODEL_H_
#define POT_ENGINE_GPT2_FLOAT_MODEL_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/tensor_source.h"
#include "engine/gpt2/gpt2_config.h"
#include "engine/gpt2/tensor_table.h"

namespace pot {

inline constexpr char kConfigFile[] = "config.json";

// Reads and parses config.json of a model directory, at most 1 MiB.
absl::StatusOr<Gpt2Config> ReadGpt2Config(const std::string& directory);

class FloatModel {
 public:
  // Opens config.json and the safetensors files, and checks that the tensors'
  // names are those of Gpt2Tensors(config). They may begin with
  // "transformer."; attention mask buffers ("h.0.attn.bias",
  // "h.0.attn.masked_bias") are ignored. INVALID_ARGUMENT names a tensor that
  // is missing, unknown or there under both names.
  //
  // A tied model's file may hold lm_head.weight all the same, as some savers
  // write both: it must then equal wte.weight, value by value, and is ignored.
  static absl::StatusOr<FloatModel> Open(const std::string& directory);

  const Gpt2Config& config() const { return config_; }
  const std::vector<TensorSpec>& tensors() const { return tensors_; }

  // One tensor of the table as fp32, in the order of its shape there.
  // INVALID_ARGUMENT for another shape or type, or a value that is not finite.
  absl::StatusOr<std::vector<float>> Read(const TensorSpec& tensor) const;

  const TensorSource& source() const { return *source_; }

 private:
  FloatModel(Gpt2Config config, std::unique_ptr<const TensorSource> source);
  absl::Status MatchNames(const std::string& directory);
  absl::Status CheckTiedHead(const std::string& directory) const;

  Gpt2Config config_;
  std::vector<TensorSpec> tensors_;
  std::unique_ptr<const TensorSource> source_;
  // Name without "transformer." -> name in the file.
  std::map<std::string, std::string> file_names_;
};

}  // namespace pot

#endif  // POT_ENGINE_GPT2_FLOAT_MODEL_H_
