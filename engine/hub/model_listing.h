// What a hub says that a model's repository holds, and which of it is needed.
#ifndef POT_ENGINE_HUB_MODEL_LISTING_H_
#define POT_ENGINE_HUB_MODEL_LISTING_H_

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pot {

inline constexpr char kHubConfigFile[] = "config.json";
inline constexpr char kHubWeightsFile[] = "model.safetensors";
inline constexpr char kHubIndexFile[] = "model.safetensors.index.json";

struct ModelListing {
  std::string commit;
  std::set<std::string> files;
  int64_t modified_unix_seconds = 0;  // 0: unknown
};

// The answer of /api/models/ID/revision/REVISION. FAILED_PRECONDITION when it
// is none.
absl::StatusOr<ModelListing> ParseModelListing(absl::string_view json);

// The tokenizer's files, and kHubWeightsFile or kHubIndexFile, in that order.
// INVALID_ARGUMENT says what is missing and which other weights there are.
absl::StatusOr<std::vector<std::string>> ChooseFiles(
    const std::string& repo, const std::set<std::string>& files);

// INVALID_ARGUMENT for a config.json of another kind of model, so that nobody
// waits for its weights.
absl::Status CheckIsGpt2(const std::string& repo, absl::string_view config);

// The shards that an index names, sorted. INVALID_ARGUMENT for names that are
// more than a .safetensors file beside it.
absl::StatusOr<std::vector<std::string>> ParseShards(absl::string_view index);

}  // namespace pot

#endif  // POT_ENGINE_HUB_MODEL_LISTING_H_
