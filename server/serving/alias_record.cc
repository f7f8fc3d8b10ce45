#include "server/serving/alias_record.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/json.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

using Json = nlohmann::json;

constexpr AliasChangeCause kCauses[] = {
    AliasChangeCause::kSet, AliasChangeCause::kRollback,
    AliasChangeCause::kPublish, AliasChangeCause::kAutoRollback};

absl::Status Wrong(absl::string_view what, absl::string_view key,
                   absl::string_view need) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": \"", key, "\" must be ", need));
}

absl::StatusOr<int64_t> Integer(const Json& json, const char* key,
                                int64_t lowest, absl::string_view what) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number_unsigned() ||
      found->get<uint64_t>() >
          static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ||
      found->get<int64_t>() < lowest) {
    return Wrong(what, key,
                 absl::StrCat("a 64-bit integer of at least ", lowest));
  }
  return found->get<int64_t>();
}

absl::StatusOr<std::string> Text(const Json& json, const char* key,
                                 bool required, absl::string_view what) {
  const auto found = json.find(key);
  if (found == json.end() && !required) return std::string();
  if (found == json.end() || !found->is_string()) {
    return Wrong(what, key, "a string");
  }
  return found->get<std::string>();
}

}  // namespace

absl::string_view AliasChangeCauseName(AliasChangeCause cause) {
  switch (cause) {
    case AliasChangeCause::kSet:
      return "SET";
    case AliasChangeCause::kRollback:
      return "ROLLBACK";
    case AliasChangeCause::kPublish:
      return "PUBLISH";
    case AliasChangeCause::kAutoRollback:
      return "AUTO_ROLLBACK";
  }
  return "UNKNOWN";
}

std::string AliasChangeToJson(const AliasChange& change) {
  nlohmann::ordered_json json;
  json["sequence"] = change.sequence;
  json["alias"] = change.alias;
  json["from"] = change.from_version;
  json["to"] = change.to_version;
  json["cause"] = std::string(AliasChangeCauseName(change.cause));
  json["actor"] = ReplaceInvalidUtf8(change.actor);
  json["comment"] = ReplaceInvalidUtf8(change.comment);
  json["time"] =
      absl::FormatTime(absl::RFC3339_full, change.time, absl::UTCTimeZone());
  return json.dump();
}

absl::StatusOr<AliasChange> ParseAliasChange(absl::string_view line,
                                             absl::string_view what) {
  POT_ASSIGN_OR_RETURN(const Json json, ParseJson(line, what));
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": must be a JSON object"));
  }
  AliasChange change;
  POT_ASSIGN_OR_RETURN(change.sequence, Integer(json, "sequence", 1, what));
  POT_ASSIGN_OR_RETURN(change.alias, Text(json, "alias", true, what));
  const absl::Status valid = ValidateAlias(change.alias);
  if (!valid.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": ", valid.message()));
  }
  POT_ASSIGN_OR_RETURN(change.from_version, Integer(json, "from", 0, what));
  POT_ASSIGN_OR_RETURN(change.to_version, Integer(json, "to", 0, what));
  POT_ASSIGN_OR_RETURN(const std::string cause,
                       Text(json, "cause", true, what));
  bool known = false;
  for (const AliasChangeCause candidate : kCauses) {
    if (AliasChangeCauseName(candidate) != cause) continue;
    change.cause = candidate;
    known = true;
  }
  if (!known) {
    return Wrong(what, "cause",
                 absl::StrCat("SET, ROLLBACK, PUBLISH or AUTO_ROLLBACK, not ",
                              Quote(cause)));
  }
  POT_ASSIGN_OR_RETURN(change.actor, Text(json, "actor", false, what));
  POT_ASSIGN_OR_RETURN(change.comment, Text(json, "comment", false, what));
  POT_ASSIGN_OR_RETURN(const std::string time, Text(json, "time", true, what));
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, time, &change.time, &error)) {
    return Wrong(what, "time", absl::StrCat("RFC 3339, not ", Quote(time)));
  }
  return change;
}

}  // namespace pot
