#include "engine/loaded_model.h"

#include <utility>

#include "engine/base/status_macros.h"
#include "engine/gpt2/model_files.h"

namespace pot {

absl::StatusOr<std::shared_ptr<const LoadedModel>> LoadModel(
    const std::string& directory, ModelIdentity identity,
    const LoadOptions& options) {
  auto model = std::make_shared<LoadedModel>();
  model->identity = std::move(identity);
  POT_ASSIGN_OR_RETURN(model->weights, LoadModelWeights(directory, options));
  POT_ASSIGN_OR_RETURN(model->tokenizer,
                       LoadTokenizer(directory, model->config()));
  model->kv_type = model->weights->quantized ? KvType::kF16 : KvType::kF32;
  return std::shared_ptr<const LoadedModel>(std::move(model));
}

}  // namespace pot
