#include "server/security/access_control.h"

#include <openssl/crypto.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

constexpr absl::string_view kScheme = "Bearer ";
// Far above any token: hashing more would be work for nothing.
constexpr size_t kMaxTokenBytes = 4096;

absl::Status Unauthenticated(const char* reason, absl::string_view message) {
  return WithDetails(absl::UnauthenticatedError(message), {.reason = reason});
}

absl::Status MissingScope(ScopeSet scopes) {
  const std::string names = ScopeNames(scopes, " or ");
  return WithDetails(
      absl::PermissionDeniedError(
          absl::StrCat("the call needs a token with the scope ", names)),
      {.reason = "MISSING_SCOPE", .metadata = {{"limit", names}}});
}

}  // namespace

Admission::Admission(std::string caller, std::shared_ptr<Quota> quota,
                     std::function<absl::Time()> now)
    : caller_(std::move(caller)),
      quota_(std::move(quota)),
      now_(std::move(now)) {}

Admission::~Admission() { quota_->End(tokens_, now_()); }

AccessControl::AccessControl(const std::vector<ApiKey>& keys,
                             std::function<absl::Time()> now)
    : now_(std::move(now)) {
  SetKeys(keys);
}

void AccessControl::SetKeys(const std::vector<ApiKey>& keys) {
  const absl::Time now = now_();
  MutexLock lock(&mutex_);
  std::map<std::string, std::shared_ptr<Quota>> known;
  if (entries_ != nullptr) {
    for (const Entry& entry : *entries_) known[entry.key.name] = entry.quota;
  }
  auto entries = std::make_shared<Entries>();
  for (const ApiKey& key : keys) {
    std::shared_ptr<Quota>& quota = known[key.name];
    if (quota == nullptr) {
      quota = std::make_shared<Quota>(key.quota, now);
    } else {
      quota->SetLimits(key.quota, now);
    }
    entries->push_back({key, quota});
  }
  entries_ = std::move(entries);
}

absl::StatusOr<AccessControl::Entry> AccessControl::Find(
    absl::string_view authorization) const {
  if (authorization.empty()) {
    return Unauthenticated(
        "NO_TOKEN",
        "the call needs a token: metadata authorization = Bearer "
        "TOKEN");
  }
  absl::string_view token = authorization;
  const bool bearer = absl::StartsWithIgnoreCase(token, kScheme);
  if (bearer) {
    token = absl::StripAsciiWhitespace(token.substr(kScheme.size()));
  }
  std::shared_ptr<const Entries> entries;
  {
    MutexLock lock(&mutex_);
    entries = entries_;
  }
  const Entry* found = nullptr;
  if (bearer && token.size() <= kMaxTokenBytes) {
    const TokenDigest digest = DigestOfToken(token);
    for (const Entry& entry : *entries) {
      if (CRYPTO_memcmp(digest.data(), entry.key.digest.data(),
                        digest.size()) == 0) {
        found = &entry;
      }
    }
  }
  if (found != nullptr) return *found;
  return Unauthenticated("BAD_TOKEN", "the token is not valid");
}

absl::StatusOr<ApiKey> AccessControl::Authenticate(
    absl::string_view authorization) const {
  POT_ASSIGN_OR_RETURN(Entry entry, Find(authorization));
  return std::move(entry.key);
}

absl::Status AccessControl::CheckScopes(absl::string_view authorization,
                                        ScopeSet scopes) const {
  POT_ASSIGN_OR_RETURN(const Entry entry, Find(authorization));
  return (entry.key.scopes & scopes) != 0 ? absl::OkStatus()
                                          : MissingScope(scopes);
}

absl::StatusOr<std::unique_ptr<Admission>> AccessControl::Admit(
    absl::string_view method, absl::string_view authorization) {
  POT_ASSIGN_OR_RETURN(Entry entry, Find(authorization));
  const ScopeSet scopes = ScopesForMethod(method);
  if ((entry.key.scopes & scopes) == 0) return MissingScope(scopes);
  POT_RETURN_IF_ERROR(entry.quota->Begin(now_()));
  return std::make_unique<Admission>(std::move(entry.key.name),
                                     std::move(entry.quota), now_);
}

}  // namespace pot
