#include "server/security/key_file.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/base/characters.h"
#include "engine/base/file.h"
#include "engine/base/quote.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

constexpr size_t kMaxNameBytes = 64;
constexpr absl::string_view kDigestPrefix = "sha256:";
constexpr double kMaxRate = 1e9;
constexpr int64_t kMaxCalls = 1 << 20;

TokenDigest FromHex(absl::string_view hex) {
  const std::string bytes = absl::HexStringToBytes(hex);
  TokenDigest digest;
  std::copy_n(bytes.begin(), digest.size(), digest.begin());
  return digest;
}

absl::StatusOr<TokenDigest> ParseDigest(absl::string_view text) {
  const absl::string_view hex =
      text.substr(std::min(text.size(), kDigestPrefix.size()));
  if (!absl::StartsWith(text, kDigestPrefix) || !IsSha256Hex(hex)) {
    // Perhaps a token that was pasted: not shown.
    return absl::InvalidArgumentError(
        "the third word must be sha256: and 64 lower-case hexadecimal digits");
  }
  return FromHex(hex);
}

absl::Status ParseQuota(absl::string_view word, QuotaLimits* quota) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(word, absl::MaxSplits('=', 1));
  const auto [name, value] = parts;
  const std::pair<absl::string_view, double*> kRates[] = {
      {"requests-per-second", &quota->requests_per_second},
      {"request-burst", &quota->request_burst},
      {"tokens-per-second", &quota->tokens_per_second},
      {"token-burst", &quota->token_burst},
  };
  for (const auto& [known, rate] : kRates) {
    if (name != known) continue;
    if (absl::SimpleAtod(value, rate) && *rate > 0 && *rate <= kMaxRate) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat(
        name, " must be a number in (0, 1e9], not ", Quote(value)));
  }
  if (name != "concurrent-calls") {
    return absl::InvalidArgumentError(absl::StrCat(
        "no quota ", Quote(word),
        "; there are requests-per-second, request-burst, tokens-per-second, "
        "token-burst and concurrent-calls, each as NAME=NUMBER"));
  }
  if (absl::SimpleAtoi(value, &quota->concurrent_calls) &&
      quota->concurrent_calls >= 1 && quota->concurrent_calls <= kMaxCalls) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("concurrent-calls must be a number in [1, ", kMaxCalls,
                   "], not ", Quote(value)));
}

absl::StatusOr<ApiKey> ParseKey(const std::vector<absl::string_view>& words) {
  ApiKey key;
  if (!IsNameText(words[0], kMaxNameBytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the name must be 1 to ", kMaxNameBytes,
                     " of [A-Za-z0-9._-], not ", Quote(words[0])));
  }
  key.name = std::string(words[0]);
  if (words.size() < 3) {
    return absl::InvalidArgumentError(
        "must have a name, scopes and a digest; see pot-client tokens new");
  }
  POT_ASSIGN_OR_RETURN(key.scopes, ParseScopes(words[1]));
  POT_ASSIGN_OR_RETURN(key.digest, ParseDigest(words[2]));
  std::set<absl::string_view> given;
  for (size_t i = 3; i < words.size(); ++i) {
    POT_RETURN_IF_ERROR(ParseQuota(words[i], &key.quota));
    if (!given.insert(words[i].substr(0, words[i].find('='))).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("the quota ", Quote(words[i]), " is given twice"));
    }
  }
  if ((key.quota.request_burst > 0 && key.quota.requests_per_second == 0) ||
      (key.quota.token_burst > 0 && key.quota.tokens_per_second == 0)) {
    return absl::InvalidArgumentError(
        "a burst needs the rate that it belongs to");
  }
  return key;
}

}  // namespace

absl::StatusOr<std::vector<ApiKey>> ParseKeyFile(absl::string_view text) {
  std::vector<ApiKey> keys;
  std::vector<std::string> errors;
  std::set<std::string> names;
  std::set<TokenDigest> digests;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    const std::vector<absl::string_view> words =
        absl::StrSplit(line.substr(0, line.find('#')), absl::ByAnyChar(" \t\r"),
                       absl::SkipEmpty());
    if (words.empty()) continue;
    absl::StatusOr<ApiKey> key = ParseKey(words);
    std::string wrong;
    if (!key.ok()) {
      wrong = std::string(key.status().message());
    } else if (!names.insert(key->name).second) {
      wrong = absl::StrCat("the name ", Quote(key->name), " is taken");
    } else if (!digests.insert(key->digest).second) {
      wrong = "the digest is that of another line";
    }
    if (!wrong.empty()) {
      errors.push_back(absl::StrCat("line ", number, ": ", wrong));
    } else {
      keys.push_back(*std::move(key));
    }
  }
  if (errors.empty() && keys.empty()) errors.emplace_back("it has no key");
  if (keys.size() > kMaxKeys) {
    errors.push_back(absl::StrCat("it may have at most ", kMaxKeys,
                                  " keys and has ", keys.size()));
  }
  if (errors.empty()) return keys;
  return absl::InvalidArgumentError(absl::StrJoin(errors, "; "));
}

absl::StatusOr<std::vector<ApiKey>> ReadKeyFile(const std::string& path) {
  POT_ASSIGN_OR_RETURN(const std::string text,
                       ReadFile(path, kMaxKeyFileBytes));
  return ParseKeyFile(text);
}

TokenDigest DigestOfToken(absl::string_view token) {
  return FromHex(Sha256Hex(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(token.data()), token.size())));
}

}  // namespace pot
