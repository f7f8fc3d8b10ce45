#include "server/serving/error_details.h"

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace pot {
namespace {

constexpr char kTypeUrl[] = "pot.ErrorDetails";

// The payload is a list of strings, each as "<length>:<bytes>": reason, field,
// retry time in nanoseconds or nothing, log message, then keys and values in
// turn.
void AppendString(absl::string_view value, std::string* out) {
  absl::StrAppend(out, value.size(), ":", value);
}

std::optional<std::vector<std::string>> SplitStrings(absl::string_view text) {
  std::vector<std::string> strings;
  while (!text.empty()) {
    const size_t colon = text.find(':');
    uint64_t size = 0;
    if (colon == absl::string_view::npos ||
        !absl::SimpleAtoi(text.substr(0, colon), &size)) {
      return std::nullopt;
    }
    text.remove_prefix(colon + 1);
    if (size > text.size()) return std::nullopt;
    strings.emplace_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return strings;
}

std::string Serialize(const ErrorDetails& details) {
  std::string out;
  AppendString(details.reason, &out);
  AppendString(details.field, &out);
  AppendString(
      details.retry_after.has_value()
          ? absl::StrCat(absl::ToInt64Nanoseconds(*details.retry_after))
          : "",
      &out);
  AppendString(details.log_message, &out);
  for (const auto& [key, value] : details.metadata) {
    AppendString(key, &out);
    AppendString(value, &out);
  }
  return out;
}

}  // namespace

absl::Status WithDetails(absl::Status status, const ErrorDetails& details) {
  if (status.ok()) return status;
  ErrorDetails merged = GetDetails(status).value_or(ErrorDetails());
  if (merged.reason.empty()) merged.reason = details.reason;
  if (merged.field.empty()) merged.field = details.field;
  if (merged.log_message.empty()) merged.log_message = details.log_message;
  if (!merged.retry_after.has_value()) merged.retry_after = details.retry_after;
  merged.metadata.insert(details.metadata.begin(), details.metadata.end());
  status.SetPayload(kTypeUrl, absl::Cord(Serialize(merged)));
  return status;
}

absl::Status DiskError(int error, absl::string_view what) {
  const absl::Status status = absl::ErrnoToStatus(error, what);
  return absl::IsResourceExhausted(status)
             ? WithDetails(status, {.reason = "DISK_BUDGET"})
             : status;
}

std::optional<ErrorDetails> GetDetails(const absl::Status& status) {
  const auto payload = status.GetPayload(kTypeUrl);
  if (!payload.has_value()) return std::nullopt;
  std::optional<std::vector<std::string>> strings =
      SplitStrings(std::string(*payload));
  if (!strings.has_value() || strings->size() < 4 || strings->size() % 2 == 1) {
    return std::nullopt;
  }
  ErrorDetails details;
  details.reason = std::move((*strings)[0]);
  details.field = std::move((*strings)[1]);
  if (!(*strings)[2].empty()) {
    int64_t nanoseconds = 0;
    if (!absl::SimpleAtoi((*strings)[2], &nanoseconds)) return std::nullopt;
    details.retry_after = absl::Nanoseconds(nanoseconds);
  }
  details.log_message = std::move((*strings)[3]);
  for (size_t i = 4; i < strings->size(); i += 2) {
    details.metadata[(*strings)[i]] = std::move((*strings)[i + 1]);
  }
  return details;
}

}  // namespace pot
