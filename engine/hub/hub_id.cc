#include "engine/hub/hub_id.h"

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/base/characters.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

constexpr char kPrefix[] = "hf:";
constexpr size_t kMaxNameBytes = 96;
constexpr size_t kMaxRevisionBytes = 255;

// Neither a way up nor a hidden file, and no "--", which separates names in
// the cache.
bool IsRepoPart(absl::string_view part) {
  return IsNameText(part, kMaxNameBytes) && part.front() != '.' &&
         part.front() != '-' && part.back() != '.' && part.back() != '-' &&
         !absl::StrContains(part, "--") && !absl::StrContains(part, "..");
}

bool IsRevision(absl::string_view revision) {
  if (revision.empty() || revision.size() > kMaxRevisionBytes) return false;
  for (const absl::string_view part : absl::StrSplit(revision, '/')) {
    const bool plain = std::all_of(part.begin(), part.end(), [](char c) {
      return IsNameCharacter(c) || c == '+' || c == '=';
    });
    if (part.empty() || part.front() == '.' || !plain) return false;
  }
  return true;
}

}  // namespace

std::string HubId::text() const {
  return absl::StrCat(kPrefix, repo, "@", revision);
}

std::string HubId::cache_name() const {
  return absl::StrCat("models--", absl::StrReplaceAll(repo, {{"/", "--"}}));
}

bool IsHubId(absl::string_view text) { return absl::StartsWith(text, kPrefix); }

absl::StatusOr<HubId> ParseHubId(absl::string_view text) {
  if (!absl::ConsumePrefix(&text, kPrefix)) {
    return absl::InvalidArgumentError(absl::StrCat(
        Quote(text), " is no hub id: it must begin with ", kPrefix));
  }
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits('@', 1));
  if (parts.second.empty() && absl::StrContains(text, '@')) {
    return absl::InvalidArgumentError(
        absl::StrCat("the hub id ", Quote(text), " has no revision after @"));
  }
  return MakeHubId(parts.first, parts.second);
}

absl::StatusOr<HubId> MakeHubId(absl::string_view repo,
                                absl::string_view revision) {
  const std::vector<absl::string_view> parts = absl::StrSplit(repo, '/');
  if (parts.size() > 2 ||
      !std::all_of(parts.begin(), parts.end(), IsRepoPart)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a hub's model is OWNER/NAME, each 1 to ", kMaxNameBytes,
        " of [A-Za-z0-9._-] without -- and .., not ", Quote(repo)));
  }
  HubId id;
  id.repo = std::string(repo);
  if (revision.empty()) return id;
  if (!IsRevision(revision)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a revision is a branch, tag or commit of at most ", kMaxRevisionBytes,
        " of [A-Za-z0-9._+=/-], not ", Quote(revision)));
  }
  id.revision = std::string(revision);
  return id;
}

bool IsCommit(absl::string_view text) { return IsLowerHex(text, 40); }

}  // namespace pot
