#include "server/serving/field_errors.h"

#include <charconv>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/characters.h"
#include "engine/base/sha256.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

// Shortest text that reads back as the same float, so that a value just past a
// limit does not print as the limit.
std::string FloatText(float value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value).ptr;
  return std::string(buffer, end);
}

}  // namespace

absl::Status FieldError(absl::string_view reason, absl::string_view field,
                        absl::string_view complaint, absl::string_view limit,
                        absl::string_view value) {
  ErrorDetails details;
  details.reason = std::string(reason);
  details.field = std::string(field);
  if (!limit.empty()) details.metadata["limit"] = std::string(limit);
  if (!value.empty()) details.metadata["value"] = std::string(value);
  return WithDetails(
      absl::InvalidArgumentError(absl::StrCat(field, " ", complaint)), details);
}

absl::Status RangeError(absl::string_view field, absl::string_view limit,
                        absl::string_view value) {
  return FieldError(
      "INVALID_FIELD", field,
      absl::StrCat("must be in ", limit, "; the given value is ", value), limit,
      value);
}

absl::Status CheckRange(absl::string_view field, int64_t value, int64_t low,
                        int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return RangeError(field, absl::StrCat("[", low, ", ", high, "]"),
                    absl::StrCat(value));
}

absl::Status CheckFloatRange(absl::string_view field, float value,
                             bool in_range, absl::string_view limit) {
  if (in_range) return absl::OkStatus();
  return RangeError(field, limit, FloatText(value));
}

absl::Status CheckBytes(absl::string_view field, absl::string_view text,
                        int64_t low, int64_t high) {
  const auto size = static_cast<int64_t>(text.size());
  if (size >= low && size <= high) return absl::OkStatus();
  const std::string limits = low > 0
                                 ? absl::StrCat("must have ", low, " to ", high)
                                 : absl::StrCat("may have at most ", high);
  return FieldError(
      "INVALID_FIELD", field, absl::StrCat(limits, " bytes; it has ", size),
      low > 0 ? absl::StrCat("[", low, ", ", high, "]") : absl::StrCat(high),
      absl::StrCat(size));
}

absl::Status CheckSha256(absl::string_view field, absl::string_view text) {
  if (IsSha256Hex(text)) return absl::OkStatus();
  const std::string quoted = Quoted(text);
  return FieldError(
      "INVALID_FIELD", field,
      absl::StrCat("must be 64 lower-case hexadecimal digits; it is ", quoted,
                   ", ", text.size(), " bytes"),
      "64", quoted);
}

absl::Status CheckFileName(absl::string_view field, absl::string_view name,
                           int64_t max_bytes) {
  if (IsName(name, static_cast<size_t>(max_bytes))) return absl::OkStatus();
  const std::string quoted = Quoted(name);
  return FieldError("INVALID_FIELD", field,
                    absl::StrCat("must be 1 to ", max_bytes,
                                 " characters of [A-Za-z0-9._-] and begin with "
                                 "a letter or digit; it is ",
                                 quoted),
                    absl::StrCat(max_bytes), quoted);
}

absl::Status CheckEntries(absl::string_view field, int64_t count,
                          int64_t limit) {
  if (count <= limit) return absl::OkStatus();
  return FieldError(
      "INVALID_FIELD", field,
      absl::StrCat("may have at most ", limit, " entries; it has ", count),
      absl::StrCat(limit), absl::StrCat(count));
}

absl::Status CheckTokenId(absl::string_view field, int32_t id,
                          int64_t vocab_size) {
  if (id >= 0 && id < vocab_size) return absl::OkStatus();
  return FieldError(
      "UNKNOWN_TOKEN", field,
      absl::StrCat("is token id ", id, ", but the vocabulary has the ids [0, ",
                   vocab_size, ")"),
      absl::StrCat("[0, ", vocab_size, ")"), absl::StrCat(id));
}

std::string Quoted(absl::string_view text) {
  constexpr size_t kMaxShown = 64;
  return absl::StrCat("\"", absl::CEscape(text.substr(0, kMaxShown)),
                      text.size() > kMaxShown ? "..\"" : "\"");
}

}  // namespace pot
