// Whether a call may be made: by whom, with which scopes, within which quota.
#ifndef POT_SERVER_SECURITY_ACCESS_CONTROL_H_
#define POT_SERVER_SECURITY_ACCESS_CONTROL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "server/security/key_file.h"
#include "server/security/quota.h"
#include "server/security/scope.h"

namespace pot {

// A call that was admitted: keeps its place in the key's quota while it lives.
class Admission {
 public:
  Admission(std::string caller, std::shared_ptr<Quota> quota,
            std::function<absl::Time()> now);
  ~Admission();
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  // The key's name.
  const std::string& caller() const { return caller_; }
  // Of prompt and answer, taken from the quota when the call ends.
  void set_tokens(int64_t tokens) { tokens_ = tokens; }

 private:
  const std::string caller_;
  const std::shared_ptr<Quota> quota_;
  const std::function<absl::Time()> now_;
  int64_t tokens_ = 0;
};

// Thread-safe.
class AccessControl {
 public:
  // `now` for quotas.
  explicit AccessControl(const std::vector<ApiKey>& keys,
                         std::function<absl::Time()> now = &absl::Now);

  // From now on these keys hold. A key that keeps its name keeps what it used
  // of its quota. Calls that run go on.
  void SetKeys(const std::vector<ApiKey>& keys);

  // `authorization`: the value of the metadata, "Bearer <token>"; empty: none.
  // UNAUTHENTICATED (NO_TOKEN, BAD_TOKEN); the time it takes does not depend on
  // which key the token resembles.
  absl::StatusOr<ApiKey> Authenticate(absl::string_view authorization) const;

  // The caller has one of `scopes`; PERMISSION_DENIED (MISSING_SCOPE) naming
  // them otherwise.
  absl::Status CheckScopes(absl::string_view authorization,
                           ScopeSet scopes) const;

  // All that a call of `method`, "Generate", needs; errors of the above and of
  // Quota::Begin().
  absl::StatusOr<std::unique_ptr<Admission>> Admit(
      absl::string_view method, absl::string_view authorization);

 private:
  struct Entry {
    ApiKey key;
    std::shared_ptr<Quota> quota;
  };
  using Entries = std::vector<Entry>;

  absl::StatusOr<Entry> Find(absl::string_view authorization) const;

  const std::function<absl::Time()> now_;
  mutable Mutex mutex_;
  // Replaced as a whole.
  std::shared_ptr<const Entries> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pot

#endif  // POT_SERVER_SECURITY_ACCESS_CONTROL_H_
