#include "trainer/random_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/base/philox.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/gpt2/tensor_table.h"
#include "engine/text/byte_alphabet.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

struct NamedSize {
  absl::string_view name;
  int64_t n_layer, n_head, n_embd, n_positions, vocab_size;
};

constexpr NamedSize kSizes[] = {
    {"gpt2", 12, 12, 768, 1024, 50257},
    {"gpt2-medium", 24, 16, 1024, 1024, 50257},
    {"gpt2-large", 36, 20, 1280, 1024, 50257},
    {"gpt2-xl", 48, 25, 1600, 1024, 50257},
    {"nano", 4, 4, 128, 64, 512},
};

constexpr int kByteTokens = 256;
constexpr int64_t kMaxVocabulary = kByteTokens + kByteTokens * kByteTokens + 1;

// Approximately normal, mean 0: the sum of eight uniform 16-bit numbers has
// variance 8 (2^32 - 1) / 12. No libm, so that the bits are the same anywhere.
float RandomNormal(uint64_t seed, uint32_t tensor, uint64_t index,
                   float deviation) {
  const std::array<uint32_t, 4> words = Philox4x32(
      {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), tensor,
       0},
      {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  int64_t sum = -4 * 65535;
  for (uint32_t word : words) sum += (word & 0xffff) + (word >> 16);
  constexpr double kUnit = 53509.5;  // sqrt(8 * (65536^2 - 1) / 12)
  return static_cast<float>(static_cast<double>(sum) / kUnit * deviation);
}

absl::Status WriteTokenizer(int64_t vocab_size, const std::string& directory) {
  std::vector<std::string> bytes;
  for (int byte = 0; byte < kByteTokens; ++byte) {
    bytes.push_back(SpellBytes(std::string(1, static_cast<char>(byte))));
  }
  nlohmann::json vocab = nlohmann::json::object();
  for (int byte = 0; byte < kByteTokens; ++byte) vocab[bytes[byte]] = byte;
  std::string merges = "#version: 0.2\n";
  for (int64_t id = kByteTokens; id < vocab_size - 1; ++id) {
    const std::string& left = bytes[(id - kByteTokens) / kByteTokens];
    const std::string& right = bytes[(id - kByteTokens) % kByteTokens];
    absl::StrAppend(&merges, left, " ", right, "\n");
    vocab[left + right] = id;
  }
  vocab["<|endoftext|>"] = vocab_size - 1;
  POT_RETURN_IF_ERROR(WriteFile(directory + "/vocab.json", vocab.dump()));
  return WriteFile(directory + "/merges.txt", merges);
}

}  // namespace

std::vector<float> RandomTensor(const TensorSpec& spec, int index,
                                int64_t n_layer, uint64_t seed) {
  const int64_t count = spec.num_elements();
  switch (spec.kind) {
    case TensorKind::kBias:
      return std::vector<float>(count, 0.0f);
    case TensorKind::kLayerNorm:
      return std::vector<float>(
          count, absl::EndsWith(spec.name, ".weight") ? 1.0f : 0.0f);
    case TensorKind::kTokenEmbedding:
    case TensorKind::kPositionEmbedding:
    case TensorKind::kConv1d:
    case TensorKind::kHead:
      break;
  }
  float deviation = 0.02f;
  if (absl::StrContains(spec.name, "c_proj")) {
    deviation /= std::sqrt(2.0f * static_cast<float>(n_layer));
  }
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i) {
    values[i] = RandomNormal(seed, static_cast<uint32_t>(index),
                             static_cast<uint64_t>(i), deviation);
  }
  return values;
}

absl::StatusOr<Gpt2Config> NamedGpt2Config(absl::string_view size) {
  std::string known;
  for (const NamedSize& named : kSizes) {
    if (named.name == size) {
      Gpt2Config config;
      config.n_layer = named.n_layer;
      config.n_head = named.n_head;
      config.n_embd = named.n_embd;
      config.n_inner = 4 * named.n_embd;
      config.n_positions = named.n_positions;
      config.vocab_size = named.vocab_size;
      return config;
    }
    absl::StrAppend(&known, known.empty() ? "" : ", ", named.name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown model size '", size, "'; known are ", known));
}

std::vector<float> RandomParameters(const ParameterLayout& layout,
                                    uint64_t seed) {
  std::vector<float> parameters(layout.size());
  for (size_t i = 0; i < layout.tensors().size(); ++i) {
    const int index = static_cast<int>(i);
    const std::vector<float> values =
        RandomTensor(layout.tensors()[i], index, layout.config().n_layer, seed);
    std::copy(values.begin(), values.end(),
              parameters.begin() + layout.offset(index));
  }
  return parameters;
}

absl::Status WriteRandomModel(
    const Gpt2Config& config, uint64_t seed, const std::string& directory,
    const std::function<void(int64_t, int64_t)>& progress) {
  if (config.vocab_size <= kByteTokens || config.vocab_size > kMaxVocabulary) {
    return absl::InvalidArgumentError(
        absl::StrCat("a random model's vocabulary is ", kByteTokens + 1, " to ",
                     kMaxVocabulary, " tokens, not ", config.vocab_size));
  }
  const std::vector<TensorSpec> specs = Gpt2Tensors(config);
  std::vector<std::vector<float>> values;
  std::vector<std::pair<std::string, TensorView>> tensors;
  const int64_t total = config.num_parameters();
  int64_t done = 0;
  for (const TensorSpec& spec : specs) {
    values.push_back(RandomTensor(spec, static_cast<int>(values.size()),
                                  config.n_layer, seed));
    const std::vector<float>& last = values.back();
    tensors.emplace_back(
        spec.name, TensorView{TensorType::kF32,
                              spec.shape,
                              {reinterpret_cast<const uint8_t*>(last.data()),
                               last.size() * sizeof(float)}});
    done += spec.num_elements();
    progress(done, total);
  }
  POT_RETURN_IF_ERROR(WriteFile(directory + "/config.json", config.ToJson()));
  POT_RETURN_IF_ERROR(WriteTokenizer(config.vocab_size, directory));
  return WriteSafetensors(directory + "/model.safetensors", tensors,
                          {{"format", "pt"}});
}

}  // namespace pot
