#include "engine/loaded_model.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace pot {

absl::StatusOr<std::shared_ptr<const LoadedModel>> LoadModel(
    const std::string& directory, ModelIdentity identity,
    const LoadOptions& options) {
  auto model = std::make_shared<LoadedModel>();
  model->identity = std::move(identity);
  // The tokenizer first: it is small, and its errors are then quick.
  POT_ASSIGN_OR_RETURN(model->tokenizer, Tokenizer::Load(directory));
  POT_ASSIGN_OR_RETURN(model->weights, LoadModelWeights(directory, options));
  const int64_t ids = model->tokenizer->vocab_size();
  if (ids > model->config().vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat(
        directory, ": the tokenizer has ", ids,
        " tokens, more than the embedding's ", model->config().vocab_size));
  }
  model->kv_type = model->weights->quantized ? KvType::kF16 : KvType::kF32;
  return std::shared_ptr<const LoadedModel>(std::move(model));
}

}  // namespace pot
