#ifndef POT_TESTS_ENGINE_HUB_FAKE_HUB_H_
#define POT_TESTS_ENGINE_HUB_FAKE_HUB_H_

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "engine/hub/http.h"

namespace pot {

inline constexpr char kFakeCommit[] =
    "0123456789abcdef0123456789abcdef01234567";
inline constexpr char kFakeHubUrl[] = "https://hub.test";
inline constexpr char kFakeCdnUrl[] = "https://cdn.test";

// A hub with one model, "owner/tiny", that answers in memory. Large files are
// redirected to a CDN, with a signature in the query.
class FakeHub : public Http {
 public:
  // What comes instead of the next answer to a request.
  struct Fault {
    int status = 0;  // 0: as ever
    std::map<std::string, std::string> headers = {};
    int64_t cut_after = -1;  // bytes of the body; -1: all
    bool refuse_connection = false;
    std::string body = {};  // where it is not empty: this instead
  };

  absl::Status Do(const HttpRequest& request,
                  const HttpHandler& handler) override;

  // GET requests of a file, without the query.
  std::vector<HttpRequest> Gets(const std::string& file) const;

  std::map<std::string, std::string> files;
  std::set<std::string> large;  // of `files`
  // By file, or "" for the description of the model; for GETs of its last
  // address.
  std::map<std::string, std::deque<Fault>> faults;
  std::vector<HttpRequest> requests;
};

std::string FakeDigest(const std::string& content, bool large);

}  // namespace pot

#endif  // POT_TESTS_ENGINE_HUB_FAKE_HUB_H_
