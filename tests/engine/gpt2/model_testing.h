// What the tests of engine/gpt2 share: models on disk and in memory.
#ifndef POT_TESTS_ENGINE_GPT2_MODEL_TESTING_H_
#define POT_TESTS_ENGINE_GPT2_MODEL_TESTING_H_

#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/gpt2/kv_cache.h"
#include "engine/gpt2/model_weights.h"
#include "engine/gpt2/quantize_model.h"

namespace pot {

// A fresh directory, removed with all that is in it.
class TempDirectory {
 public:
  TempDirectory();
  ~TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// tests/testdata/tiny-bpe: 3 layers, separate head, erf GELU, 300 tokens.
std::string TinyBpeDirectory();
// A file or directory of deploy/.
std::string DeployedFile(const std::string& name);
// Development data beside the repository; "" and a loud message without it.
std::string SharedFile(const std::string& name);

QuantizeOptions MakeQuantizeOptions(absl::string_view format,
                                    absl::string_view granularity,
                                    QuantizeMode mode);
// Layers and embedding alike.
QuantizeModelOptions MakeModelOptions(absl::string_view format,
                                      absl::string_view granularity,
                                      QuantizeMode mode);

// These abort the test program on an error.
const KernelTable* BestKernels();
std::unique_ptr<const ModelWeights> MustLoad(
    const std::string& directory, const KernelTable* kernels,
    ActivationMode activations = ActivationMode::kAffine);
void MustQuantize(const std::string& from, const std::string& to,
                  const QuantizeModelOptions& options);

// A Hugging Face model in memory, to be spoilt and written.
struct EditableModel {
  struct Tensor {
    TensorType type;
    std::vector<int64_t> shape;
    std::vector<uint8_t> bytes;
  };
  std::string config_json;
  std::map<std::string, Tensor> tensors;

  static EditableModel TinyBpe();
  // config.json, model.safetensors and tiny-bpe's tokenizer.
  void Write(const std::string& directory) const;
  void Rename(const std::string& from, const std::string& to);
};

// A cache with a budget of its own that never runs out.
std::unique_ptr<KvCache> MustCreateCache(const ModelWeights& weights,
                                         KvType type, int64_t positions);

std::vector<int32_t> RandomTokens(int64_t count, int64_t vocab_size,
                                  std::mt19937* random);

}  // namespace pot

#endif  // POT_TESTS_ENGINE_GPT2_MODEL_TESTING_H_
