// URLs as libcurl, which connects to them, understands them: what was checked
// is what is contacted.
#ifndef POT_ENGINE_HUB_URL_H_
#define POT_ENGINE_HUB_URL_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pot {

struct Url {
  std::string text;    // absolute, without a fragment
  std::string scheme;  // "https" or "http"
  std::string host;    // lower case; an IPv6 address without brackets
  int port = 0;

  // For people and logs: without the query, where CDNs have their signatures.
  std::string shown() const;
  // Whether a token for one of them is meant for the other.
  bool SameOrigin(const Url& other) const {
    return scheme == other.scheme && host == other.host && port == other.port;
  }
  // Whether it is this machine whatever a name server says: localhost,
  // 127.0.0.0/8, ::1.
  bool IsLoopback() const;
};

// INVALID_ARGUMENT unless it is an absolute http or https URL of printable
// ASCII without a user.
absl::StatusOr<Url> ParseUrl(const std::string& text);
// What a redirect from `base` to `reference` leads to.
absl::StatusOr<Url> ResolveUrl(const Url& base, const std::string& reference);

// `text` as one part of a path: all but letters, digits, "-._~" as %XX.
std::string EscapeUrlPart(absl::string_view text);

// Hosts that may be contacted.
class HostList {
 public:
  // Separated by commas: "huggingface.co" is that host at its scheme's own
  // port, "localhost:8080" at that one, "*.hf.co" every host below hf.co.
  // INVALID_ARGUMENT names the entry.
  static absl::StatusOr<HostList> Parse(absl::string_view text);

  bool empty() const { return entries_.empty(); }
  bool Allows(const Url& url) const;

 private:
  struct Entry {
    std::string host;
    bool below = false;  // "*." in front
    int port = 0;        // 0: the scheme's
  };

  std::vector<Entry> entries_;
};

}  // namespace pot

#endif  // POT_ENGINE_HUB_URL_H_
