#ifndef POT_ENGINE_HUB_HUB_ID_H_
#define POT_ENGINE_HUB_HUB_ID_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pot {

// A model of a Hugging Face hub: "openai-community/gpt2", or "gpt2" for those
// of old.
struct HubId {
  std::string repo;
  std::string revision = "main";  // branch, tag or commit

  // Without the owner: "gpt2".
  std::string name() const { return repo.substr(repo.rfind('/') + 1); }
  // "hf:openai-community/gpt2@main".
  std::string text() const;
  // What "owner/name" is called in the hub's cache: models--owner--name.
  std::string cache_name() const;
};

// Whether `text` means a hub's model rather than a path: begins with "hf:".
bool IsHubId(absl::string_view text);

// "hf:[OWNER/]NAME[@REVISION]". INVALID_ARGUMENT says what is wrong: OWNER and
// NAME are 1 to 96 of [A-Za-z0-9._-] as on the hub, without "--" and "..",
// which would leave the cache's directories.
absl::StatusOr<HubId> ParseHubId(absl::string_view text);
// The same of its parts; an empty revision is "main".
absl::StatusOr<HubId> MakeHubId(absl::string_view repo,
                                absl::string_view revision);

// 40 lower-case hexadecimal digits.
bool IsCommit(absl::string_view text);

}  // namespace pot

#endif  // POT_ENGINE_HUB_HUB_ID_H_
