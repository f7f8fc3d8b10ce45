// The file of --token-file: who may call, without their tokens.
//
//   # name  scopes       digest              quotas
//   ci      infer        sha256:9f86d0..     requests-per-second=20
//   nightly infer,train  sha256:60303a..
#ifndef POT_SERVER_SECURITY_KEY_FILE_H_
#define POT_SERVER_SECURITY_KEY_FILE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/security/quota.h"
#include "server/security/scope.h"

namespace pot {

using TokenDigest = std::array<uint8_t, 32>;

struct ApiKey {
  std::string name;  // unique; 1 to 64 of [A-Za-z0-9._-]
  ScopeSet scopes = 0;
  TokenDigest digest = {};  // SHA-256 of the token; unique
  QuotaLimits quota;
};

inline constexpr size_t kMaxKeyFileBytes = 1 << 20;
inline constexpr size_t kMaxKeys = 1024;

// INVALID_ARGUMENT lists everything that is wrong, a line of the file each;
// also for a file without a key, which would lock everybody out.
absl::StatusOr<std::vector<ApiKey>> ParseKeyFile(absl::string_view text);
absl::StatusOr<std::vector<ApiKey>> ReadKeyFile(const std::string& path);

TokenDigest DigestOfToken(absl::string_view token);

}  // namespace pot

#endif  // POT_SERVER_SECURITY_KEY_FILE_H_
