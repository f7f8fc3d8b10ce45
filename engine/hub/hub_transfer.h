#ifndef POT_ENGINE_HUB_HUB_TRANSFER_H_
#define POT_ENGINE_HUB_HUB_TRANSFER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/hub/http.h"
#include "engine/hub/hub_id.h"
#include "engine/hub/hub_settings.h"
#include "engine/hub/partial_file.h"

namespace pot {

// What the hub says of a file before it sends it.
struct HubFileInfo {
  // The file's digest: SHA-256 of one in large file storage, git's SHA-1 of
  // the others. "" when the hub does not say.
  std::string etag;
  int64_t size = -1;   // -1: unknown
  std::string commit;  // "" when the hub does not say
};

struct TransferHooks {
  // False cancels. Asked at least once a second.
  std::function<bool()> go_on;
  // A line for a person: what is waited for.
  std::function<void(const std::string&)> note;
  // Instead of sleeping, for tests.
  std::function<void(absl::Duration)> sleep;
};

// Requests to a hub about one model: redirects, of which only those go where
// the settings allow, and to whose hosts the token does not follow; retries,
// as often and as late as the hub asks, within bounds; resumption.
//
// Errors say what to do: NOT_FOUND (repository, revision or file),
// UNAUTHENTICATED, PERMISSION_DENIED (gated; a redirect that is not allowed),
// RESOURCE_EXHAUSTED (429), UNAVAILABLE (cut, 5xx; after several attempts),
// DATA_LOSS (sizes that contradict each other), FAILED_PRECONDITION (no hub),
// CANCELLED.
class HubTransfer {
 public:
  // Borrows all; `endpoint` is settings.endpoint.
  HubTransfer(const HubSettings& settings, const Url& endpoint, const HubId& id,
              Http* http, const TransferHooks& hooks);

  // `what` names the file, or is empty for the model itself.
  absl::StatusOr<std::string> ReadText(const std::string& url,
                                       absl::string_view what,
                                       size_t max_bytes);
  absl::StatusOr<HubFileInfo> Inspect(const std::string& url,
                                      absl::string_view what);
  // Until `file` has `size` bytes, beginning with those that it has.
  absl::Status Fetch(const std::string& url, absl::string_view what,
                     int64_t size, PartialFile* file);

 private:
  struct Attempt {
    absl::Status status = {};
    bool again = false;          // worth another attempt
    bool range_refused = false;  // 416
    absl::Duration after = {};   // the hub asks for so much time
  };
  struct Exchange {
    HttpRequest request;
    bool within_origin = false;  // redirects to other hosts end it
    std::function<void(const HttpHead&)> on_hop;  // of the endpoint's origin
    std::function<absl::Status(const HttpHead&)> on_answer;  // 2xx
    std::function<absl::Status(absl::string_view)> on_body;
  };

  // With its redirects.
  Attempt Once(const Exchange& exchange, absl::string_view what);
  Attempt Refused(const HttpHead& head, absl::string_view what) const;
  absl::Status Retry(absl::string_view what,
                     const std::function<int64_t()>& progress,
                     const std::function<Attempt()>& attempt);
  // CANCELLED when it was.
  absl::Status Sleep(absl::Duration duration);

  const HubSettings& settings_;
  const Url& endpoint_;
  const HubId& id_;
  Http* const http_;
  const TransferHooks& hooks_;
};

// Whether an error is that the hub takes no more requests for now.
bool IsRateLimited(const absl::Status& status);

// The header Retry-After: seconds, or a date. Zero when it is neither.
absl::Duration ParseRetryAfter(const std::string& value, absl::Time now);

}  // namespace pot

#endif  // POT_ENGINE_HUB_HUB_TRANSFER_H_
