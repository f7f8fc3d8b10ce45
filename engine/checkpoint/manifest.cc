#include "engine/checkpoint/manifest.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/quote.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "engine/checkpoint/directory.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxManifestBytes = 4 << 20;
constexpr int64_t kMaxInt64 = std::numeric_limits<int64_t>::max();

std::string PathOf(const std::string& directory, const std::string& name) {
  return absl::StrCat(directory, "/", name);
}

std::string DigestOf(const std::string& text) {
  return Sha256Hex(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

absl::Status CheckFileName(const std::string& name, const std::string& path) {
  if (name.empty() || name.front() == '.' || name == kManifestFile ||
      FindInvalidUtf8(name) != name.size() ||
      std::any_of(name.begin(), name.end(),
                  [](char c) { return c == '/' || absl::ascii_iscntrl(c); })) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": file name ", Quote(name),
                     " must be UTF-8 without slash or control character, not ",
                     "begin with a dot and not be ", kManifestFile));
  }
  return absl::OkStatus();
}

absl::StatusOr<ManifestEntry> ReadEntry(const std::string& name,
                                        const Json& json,
                                        const std::string& path) {
  POT_RETURN_IF_ERROR(CheckFileName(name, path));
  const auto error = [&](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": file ", Quote(name), ": ", what));
  };
  if (!json.is_object()) return error("its entry must be an object");
  const auto bytes = json.find("bytes");
  if (bytes == json.end() || !bytes->is_number_unsigned() ||
      bytes->get<uint64_t>() > static_cast<uint64_t>(kMaxInt64)) {
    return error("\"bytes\" must be a non-negative 64-bit integer");
  }
  const auto sha256 = json.find("sha256");
  if (sha256 == json.end() || !sha256->is_string() ||
      !IsSha256Hex(sha256->get_ref<const std::string&>())) {
    return error("\"sha256\" must be 64 lower-case hexadecimal digits");
  }
  return ManifestEntry{bytes->get<int64_t>(), sha256->get<std::string>()};
}

absl::StatusOr<Manifest> ParseManifest(const std::string& text,
                                       const std::string& path) {
  const auto error = [&](const auto&... parts) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", parts...));
  };
  POT_ASSIGN_OR_RETURN(const Json json, ParseJson(text, path));
  if (!json.is_object()) return error("must be a JSON object");
  const auto created = json.find("created_unix_seconds");
  if (created == json.end() || !created->is_number_integer() ||
      (created->is_number_unsigned() &&
       created->get<uint64_t>() > static_cast<uint64_t>(kMaxInt64))) {
    return error("\"created_unix_seconds\" must be a 64-bit integer");
  }
  const auto tool = json.find("tool_version");
  if (tool == json.end() || !tool->is_string()) {
    return error("\"tool_version\" must be a string");
  }
  const auto files = json.find("files");
  if (files == json.end() || !files->is_object() || files->empty()) {
    return error("\"files\" must be an object with at least one file");
  }
  Manifest manifest;
  manifest.created_unix_seconds = created->get<int64_t>();
  manifest.tool_version = tool->get<std::string>();
  int64_t total = 0;
  for (const auto& [name, entry] : files->items()) {
    POT_ASSIGN_OR_RETURN(manifest.files[name], ReadEntry(name, entry, path));
    if (__builtin_add_overflow(total, manifest.files[name].bytes, &total)) {
      return error("the files' sizes add up to more than ", kMaxInt64);
    }
  }
  manifest.digest = DigestOf(text);
  return manifest;
}

}  // namespace

int64_t Manifest::total_bytes() const {
  int64_t total = 0;
  for (const auto& [name, entry] : files) total += entry.bytes;
  return total;
}

absl::StatusOr<Manifest> WriteManifest(const std::string& directory,
                                       int64_t created_unix_seconds,
                                       const std::string& tool_version) {
  if (FindInvalidUtf8(tool_version) != tool_version.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tool version ", Quote(tool_version), " is not UTF-8"));
  }
  POT_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries,
                       ListDirectory(directory));
  const std::string path = PathOf(directory, kManifestFile);
  Manifest manifest;
  manifest.created_unix_seconds = created_unix_seconds;
  manifest.tool_version = tool_version;
  Json files = Json::object();
  for (const DirectoryEntry& entry : entries) {
    if (entry.name == kManifestFile) continue;
    POT_RETURN_IF_ERROR(CheckFileName(entry.name, path));
    if (entry.kind != DirectoryEntry::Kind::kFile) {
      return absl::InvalidArgumentError(
          absl::StrCat(directory, ": ", Quote(entry.name),
                       " is not a regular file, and a model version holds ",
                       "nothing else"));
    }
    POT_ASSIGN_OR_RETURN(std::string sha256,
                         Sha256File(PathOf(directory, entry.name)));
    files[entry.name] = {{"bytes", entry.bytes}, {"sha256", sha256}};
    manifest.files[entry.name] = {entry.bytes, std::move(sha256)};
  }
  if (manifest.files.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(directory, " holds no file to publish"));
  }
  const Json json = {{"created_unix_seconds", created_unix_seconds},
                     {"files", files},
                     {"tool_version", tool_version}};
  const std::string text = json.dump(2) + "\n";
  POT_RETURN_IF_ERROR(WriteFile(path, text));
  POT_RETURN_IF_ERROR(SyncDirectory(directory));
  manifest.digest = DigestOf(text);
  return manifest;
}

absl::StatusOr<Manifest> ReadManifest(const std::string& directory) {
  const std::string path = PathOf(directory, kManifestFile);
  POT_ASSIGN_OR_RETURN(const std::string text,
                       ReadFile(path, kMaxManifestBytes));
  return ParseManifest(text, path);
}

absl::Status VerifyManifest(const std::string& directory,
                            const Manifest& manifest) {
  const auto lost = [&](const std::string& name, const auto&... parts) {
    return absl::DataLossError(
        absl::StrCat(directory, "/", name, ": ", parts...));
  };
  POT_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries,
                       ListDirectory(directory));
  size_t listed = 0;
  for (const DirectoryEntry& entry : entries) {
    if (entry.kind != DirectoryEntry::Kind::kFile) {
      return lost(entry.name, "not a regular file");
    }
    const std::string path = PathOf(directory, entry.name);
    if (entry.name == kManifestFile) {
      POT_ASSIGN_OR_RETURN(const std::string found, Sha256File(path));
      if (found != manifest.digest) {
        return lost(entry.name, "SHA-256 is ", found, ", expected ",
                    manifest.digest);
      }
      continue;
    }
    const auto expected = manifest.files.find(entry.name);
    if (expected == manifest.files.end()) {
      return lost(entry.name, "not listed in ", kManifestFile);
    }
    ++listed;
    if (entry.bytes != expected->second.bytes) {
      return lost(entry.name, entry.bytes, " bytes, expected ",
                  expected->second.bytes);
    }
    POT_ASSIGN_OR_RETURN(const std::string found, Sha256File(path));
    if (found != expected->second.sha256) {
      return lost(entry.name, "SHA-256 is ", found, ", expected ",
                  expected->second.sha256);
    }
  }
  if (listed == manifest.files.size()) return absl::OkStatus();
  for (const auto& file : manifest.files) {
    const bool found = std::any_of(
        entries.begin(), entries.end(),
        [&](const DirectoryEntry& entry) { return entry.name == file.first; });
    if (!found) {
      return lost(file.first, "listed in ", kManifestFile, ", but missing");
    }
  }
  return absl::OkStatus();
}

}  // namespace pot
