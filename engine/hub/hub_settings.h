// Where models come from and where they are kept, by the variables that
// Hugging Face's own tools have.
#ifndef POT_ENGINE_HUB_HUB_SETTINGS_H_
#define POT_ENGINE_HUB_HUB_SETTINGS_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/hub/url.h"

namespace pot {

struct HubSettings {
  // Without a slash at its end.
  std::string endpoint = "https://huggingface.co";
  // A secret: sent to the endpoint alone, shown nowhere. Empty: none.
  std::string token;
  // Of huggingface_hub's layout, and shared with it.
  std::string cache;
  std::string ca_file;  // empty: the system's authorities
  absl::Duration stall_timeout = absl::Seconds(30);
  // Only what the cache has.
  bool offline = false;
  std::string user_agent = "pot";
  // Unset: wherever the endpoint redirects to.
  std::optional<HostList> allowed_hosts;
};

using GetEnvironmentVariable = std::function<const char*(const char*)>;

// HF_ENDPOINT, HF_TOKEN or else the file HF_TOKEN_PATH (default
// $HF_HOME/token), HF_HUB_CACHE (default $HF_HOME/hub), HF_HOME (default
// ${XDG_CACHE_HOME:-~/.cache}/huggingface), HF_HUB_OFFLINE,
// HF_HUB_DOWNLOAD_TIMEOUT, HF_HUB_DISABLE_IMPLICIT_TOKEN; authorities from
// SSL_CERT_FILE, REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE. Empty variables count as
// unset. INVALID_ARGUMENT names the variable and never shows the token.
absl::StatusOr<HubSettings> HubSettingsFromEnvironment(
    const GetEnvironmentVariable& get);

// Whether the settings let a request go to `url`: over https, or over http to
// this machine when the endpoint is that, too, and within allowed_hosts.
// PERMISSION_DENIED says why not.
absl::Status CheckHubUrl(const HubSettings& settings, const Url& endpoint,
                         const Url& url);

// The endpoint, checked by the above.
absl::StatusOr<Url> HubEndpoint(const HubSettings& settings);

}  // namespace pot

#endif  // POT_ENGINE_HUB_HUB_SETTINGS_H_
