#include "client/version_directory.h"

#include <cstdint>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "client/text_format.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

constexpr char kManifest[] = "manifest.json";
constexpr size_t kMaxManifestBytes = 1 << 20;

absl::Status Malformed(const std::string& path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(Printable(path), ": ", what));
}

}  // namespace

absl::StatusOr<google::protobuf::RepeatedPtrField<v1::FileInfo>>
ListVersionDirectory(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/", kManifest);
  POT_ASSIGN_OR_RETURN(const std::string text,
                       ReadFile(path, kMaxManifestBytes));
  POT_ASSIGN_OR_RETURN(const nlohmann::json manifest, ParseJson(text, path));
  if (!manifest.is_object() || !manifest.contains("files") ||
      !manifest["files"].is_object()) {
    return Malformed(path, "no object \"files\"");
  }
  google::protobuf::RepeatedPtrField<v1::FileInfo> files;
  for (const auto& [name, entry] : manifest["files"].items()) {
    if (name.empty() || name[0] == '.' || name.find('/') != std::string::npos) {
      return Malformed(path,
                       absl::StrCat("file name ", Quoted(name), " is a path"));
    }
    if (!entry.is_object() || !entry.contains("bytes") ||
        !entry["bytes"].is_number_unsigned() || !entry.contains("sha256") ||
        !entry["sha256"].is_string()) {
      return Malformed(path, absl::StrCat("file ", Quoted(name),
                                          " without bytes and sha256"));
    }
    const auto expected = entry["bytes"].get<uint64_t>();
    std::error_code error;
    const uint64_t found =
        std::filesystem::file_size(absl::StrCat(directory, "/", name), error);
    if (error) {
      return absl::DataLossError(absl::StrCat(
          Printable(directory), "/", Printable(name), ": ", error.message()));
    }
    if (found != expected) {
      return absl::DataLossError(
          absl::StrCat(Printable(directory), "/", Printable(name), " has ",
                       found, " bytes, its manifest says ", expected));
    }
    v1::FileInfo* const file = files.Add();
    file->set_path(name);
    file->set_size_bytes(static_cast<int64_t>(expected));
    file->set_sha256(entry["sha256"].get<std::string>());
  }
  v1::FileInfo* const file = files.Add();
  file->set_path(kManifest);
  file->set_size_bytes(static_cast<int64_t>(text.size()));
  file->set_sha256(Sha256Hex(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(text.data()), text.size())));
  return files;
}

}  // namespace pot
