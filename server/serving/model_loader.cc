#include "server/serving/model_loader.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/gpt2/kv_cache.h"
#include "engine/inference_engine.h"
#include "server/serving/task_checks.h"

namespace pot {

absl::Status WarmUp(const LoadedModel& model) {
  constexpr int64_t kPromptTokens = 4;
  const int64_t positions =
      std::min(kPromptTokens + 1, model.config().n_positions);
  InferenceEngine engine(
      1, KvCache::BytesFor(model.config(), model.kv_type, positions));
  POT_ASSIGN_OR_RETURN(const std::unique_ptr<KvCache> cache,
                       engine.CreateCache(model, positions));
  const std::vector<int32_t> prompt(std::max<int64_t>(1, positions - 1), 0);
  ForwardSpan span;
  span.cache = cache.get();
  for (span.tokens = prompt; cache->length() < positions;
       span.tokens = absl::MakeConstSpan(prompt).first(1)) {
    POT_ASSIGN_OR_RETURN(const absl::Span<const float> logits,
                         engine.Step(model, {span}));
    POT_RETURN_IF_ERROR(CheckFinite(logits));
  }
  return absl::OkStatus();
}

absl::StatusOr<VerifiedModel> VerifyAndLoad(
    const std::string& directory, const std::string& name, int64_t version,
    const LoadOptions& options,
    const std::function<void(ModelVersionState)>& enter) {
  VerifiedModel verified;
  POT_ASSIGN_OR_RETURN(verified.description,
                       DescribeVersion(directory, options));
  POT_RETURN_IF_ERROR(VerifyFiles(directory, verified.description.manifest));

  enter(ModelVersionState::kLoading);
  auto model = LoadModel(
      directory, {name, version, verified.description.info.digest}, options);
  if (!model.ok()) return CheckpointError(model.status());

  enter(ModelVersionState::kWarming);
  const absl::Status warm = WarmUp(**model);
  if (!warm.ok()) return CheckpointError(warm);
  verified.model = *std::move(model);
  return verified;
}

}  // namespace pot
