#include "server/serving/relative_paths.h"

#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "server/serving/error_details.h"

namespace pot {

absl::Status RelativePaths::In(const absl::Status& status) const {
  if (status.ok()) return status;
  std::vector<std::string> prefixes = {absl::StrCat(root_, "/")};
  if (!import_root_.empty()) {
    // Importing resolves links.
    std::error_code error;
    const auto resolved = std::filesystem::canonical(import_root_, error);
    if (!error) prefixes.push_back(absl::StrCat(resolved.string(), "/"));
  }
  std::vector<std::pair<absl::string_view, absl::string_view>> replacements;
  for (const std::string& prefix : prefixes)
    replacements.push_back({prefix, ""});
  const std::string whole(status.message());
  const std::string message = absl::StrReplaceAll(whole, replacements);
  if (message == whole) return status;
  absl::Status relative(status.code(), message);
  status.ForEachPayload([&](absl::string_view type, const absl::Cord& payload) {
    relative.SetPayload(type, payload);
  });
  return WithDetails(std::move(relative), {.log_message = whole});
}

}  // namespace pot
