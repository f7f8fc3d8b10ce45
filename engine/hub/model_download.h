// A GPT-2 of a Hugging Face hub as a directory on this machine. Read this
// first; hub_settings.h says which variables of the environment matter.
#ifndef POT_ENGINE_HUB_MODEL_DOWNLOAD_H_
#define POT_ENGINE_HUB_MODEL_DOWNLOAD_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/hub/http.h"
#include "engine/hub/hub_id.h"
#include "engine/hub/hub_settings.h"

namespace pot {

// Of all files of a model together.
inline constexpr int64_t kMaxHubModelBytes = int64_t{64} << 30;

struct HubModel {
  // As other programs know a model's directory; `files` in it are links.
  std::string directory;
  std::string commit;
  std::vector<std::string> files;
  // Of the commit's repository; 0: unknown.
  int64_t modified_unix_seconds = 0;
};

struct HubHooks {
  // Bytes of all files, `total` 0 while unknown; `what` is being loaded. False
  // cancels. Called at least once a second, from the calling thread.
  std::function<bool(int64_t done, int64_t total, absl::string_view what)>
      progress;
  // A line for a person: what is waited for.
  std::function<void(const std::string&)> note;
  // Asked before weights are downloaded, with the bytes that they take on the
  // cache's disk; an error ends the download.
  std::function<absl::Status(int64_t bytes)> reserve;
  // Instead of sleeping between attempts, for tests.
  std::function<void(absl::Duration)> sleep;
};

// config.json, model.safetensors or its shards with their index, and
// vocab.json with merges.txt or tokenizer.json, every byte checked against the
// digest that the hub announces, which those in the cache already are, too.
// Safe beside other processes, and killed at any moment: what a file has so
// far is continued, and never taken for the whole.
//
// Errors as HubTransfer's, and: NOT_FOUND when offline and not in the cache,
// INVALID_ARGUMENT for a model that is no GPT-2 or has no safetensors,
// RESOURCE_EXHAUSTED for a full disk, DATA_LOSS for a wrong digest.
absl::StatusOr<HubModel> DownloadHubModel(const HubId& id,
                                          const HubSettings& settings,
                                          const HubHooks& hooks);
// The same over another transport.
absl::StatusOr<HubModel> DownloadHubModel(const HubId& id,
                                          const HubSettings& settings,
                                          const HubHooks& hooks, Http* http);

}  // namespace pot

#endif  // POT_ENGINE_HUB_MODEL_DOWNLOAD_H_
