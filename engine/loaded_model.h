// A model version in memory with all that a request needs of it. Requests pin
// it: std::shared_ptr<const LoadedModel> keeps a version alive until its last
// request is done, however many newer ones were published.
#ifndef POT_ENGINE_LOADED_MODEL_H_
#define POT_ENGINE_LOADED_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/gpt2/engine_version.h"
#include "engine/gpt2/kv_cache.h"
#include "engine/gpt2/model_weights.h"
#include "engine/text/tokenizer.h"

namespace pot {

struct ModelIdentity {
  std::string name;
  int64_t version = 0;
  std::string sha256;  // of the version's manifest
};

struct LoadedModel {
  ModelIdentity identity;
  std::unique_ptr<const ModelWeights> weights;
  std::unique_ptr<const Tokenizer> tokenizer;
  KvType kv_type = KvType::kF16;

  const Gpt2Config& config() const { return weights->config; }
};

// Loads weights and tokenizer of a directory and checks them against each
// other: INVALID_ARGUMENT when the tokenizer has more ids than the embedding
// (fewer is allowed: padded vocabularies). `identity` is taken as given.
absl::StatusOr<std::shared_ptr<const LoadedModel>> LoadModel(
    const std::string& directory, ModelIdentity identity,
    const LoadOptions& options);

}  // namespace pot

#endif  // POT_ENGINE_LOADED_MODEL_H_
