// The work of a load; no state and no lock.
#ifndef POT_SERVER_SERVING_MODEL_LOADER_H_
#define POT_SERVER_SERVING_MODEL_LOADER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/loaded_model.h"
#include "server/serving/model_version.h"
#include "server/serving/version_description.h"

namespace pot {

// Runs a prompt and a decode step, as small as they get. DATA_LOSS
// (NON_FINITE_LOGITS) for a model that computes an infinity or NaN.
absl::Status WarmUp(const LoadedModel& model);

// Reads and checks the description and every checksum, loads and warms a
// version. `enter` is told before each stage, VERIFYING excepted.
struct VerifiedModel {
  VersionDescription description;
  std::shared_ptr<const LoadedModel> model;
};
absl::StatusOr<VerifiedModel> VerifyAndLoad(
    const std::string& directory, const std::string& name, int64_t version,
    const LoadOptions& options,
    const std::function<void(ModelVersionState)>& enter);

}  // namespace pot

#endif  // POT_SERVER_SERVING_MODEL_LOADER_H_
