#include "engine/hub/hub_settings.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "engine/base/file.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

constexpr size_t kMaxTokenBytes = 4096;

class Variables {
 public:
  explicit Variables(const GetEnvironmentVariable& get) : get_(get) {}

  // The first that is set and not empty, or "".
  std::string FirstOf(std::initializer_list<const char*> names) const {
    for (const char* const name : names) {
      const char* const value = get_(name);
      if (value != nullptr && *value != '\0') return value;
    }
    return "";
  }
  // As huggingface_hub reads it.
  bool IsTrue(const char* name) const {
    const std::string value = absl::AsciiStrToUpper(FirstOf({name}));
    return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
  }

 private:
  const GetEnvironmentVariable& get_;
};

// What would end a header, or another program's mistake, is no token. The
// message does not show it.
absl::StatusOr<std::string> CleanToken(absl::string_view text,
                                       absl::string_view source) {
  const absl::string_view token = absl::StripAsciiWhitespace(text);
  const bool printable =
      std::all_of(token.begin(), token.end(),
                  [](unsigned char c) { return absl::ascii_isgraph(c); });
  if (token.size() <= kMaxTokenBytes && printable) return std::string(token);
  return absl::InvalidArgumentError(
      absl::StrCat(source, " must hold one token of at most ", kMaxTokenBytes,
                   " printable ASCII characters"));
}

absl::StatusOr<std::string> FindToken(const Variables& variables,
                                      const std::string& home) {
  const std::string given =
      variables.FirstOf({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"});
  if (!given.empty()) return CleanToken(given, "HF_TOKEN");
  if (variables.IsTrue("HF_HUB_DISABLE_IMPLICIT_TOKEN")) return std::string();
  std::string path = variables.FirstOf({"HF_TOKEN_PATH"});
  if (path.empty()) {
    if (home.empty()) return std::string();
    path = absl::StrCat(home, "/token");
  }
  const absl::StatusOr<std::string> text = ReadFile(path, kMaxTokenBytes + 2);
  if (absl::IsNotFound(text.status())) return std::string();
  POT_RETURN_IF_ERROR(text.status());
  return CleanToken(*text, Quote(path));
}

}  // namespace

absl::StatusOr<HubSettings> HubSettingsFromEnvironment(
    const GetEnvironmentVariable& get) {
  const Variables variables(get);
  HubSettings settings;
  const std::string endpoint = variables.FirstOf({"HF_ENDPOINT"});
  if (!endpoint.empty()) {
    settings.endpoint = std::string(absl::StripSuffix(endpoint, "/"));
  }
  std::string home = variables.FirstOf({"HF_HOME"});
  if (home.empty()) {
    home = variables.FirstOf({"XDG_CACHE_HOME"});
    if (home.empty()) {
      const std::string user = variables.FirstOf({"HOME"});
      if (!user.empty()) home = absl::StrCat(user, "/.cache");
    }
    if (!home.empty()) home += "/huggingface";
  }
  settings.cache = variables.FirstOf({"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"});
  if (settings.cache.empty() && !home.empty()) {
    settings.cache = absl::StrCat(home, "/hub");
  }
  settings.offline = variables.IsTrue("HF_HUB_OFFLINE") ||
                     variables.IsTrue("TRANSFORMERS_OFFLINE");
  settings.ca_file = variables.FirstOf(
      {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"});
  const std::string timeout = variables.FirstOf({"HF_HUB_DOWNLOAD_TIMEOUT"});
  if (!timeout.empty()) {
    int seconds = 0;
    if (!absl::SimpleAtoi(timeout, &seconds) || seconds < 1 || seconds > 3600) {
      return absl::InvalidArgumentError(
          absl::StrCat("HF_HUB_DOWNLOAD_TIMEOUT must be seconds in [1, 3600], "
                       "not ",
                       Quote(timeout)));
    }
    settings.stall_timeout = absl::Seconds(seconds);
  }
  POT_ASSIGN_OR_RETURN(settings.token, FindToken(variables, home));
  return settings;
}

absl::Status CheckHubUrl(const HubSettings& settings, const Url& endpoint,
                         const Url& url) {
  if (url.scheme != "https" &&
      !(url.IsLoopback() && endpoint.scheme == "http" &&
        endpoint.IsLoopback())) {
    return absl::PermissionDeniedError(absl::StrCat(
        Quote(url.shown()),
        " is not https, and http is for a hub on this machine alone"));
  }
  if (settings.allowed_hosts.has_value() &&
      !settings.allowed_hosts->Allows(url)) {
    return absl::PermissionDeniedError(
        absl::StrCat(Quote(absl::StrCat(url.host, ":", url.port)),
                     " is not among the hosts that --import-hosts lists"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Url> HubEndpoint(const HubSettings& settings) {
  absl::StatusOr<Url> endpoint = ParseUrl(settings.endpoint);
  absl::Status status = endpoint.status();
  if (status.ok()) status = CheckHubUrl(settings, *endpoint, *endpoint);
  if (status.ok()) return endpoint;
  return absl::Status(status.code(),
                      absl::StrCat("HF_ENDPOINT: ", status.message()));
}

}  // namespace pot
