#include "engine/hub/model_listing.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "engine/base/json.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/hub/hub_id.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxShards = 1000;
constexpr size_t kMaxShardNameBytes = 128;

// "" when `object` has no string of that name.
std::string StringOf(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>()
                                                     : std::string();
}

bool IsShardName(const std::string& name) {
  return absl::EndsWith(name, ".safetensors") && name.front() != '.' &&
         name.size() <= kMaxShardNameBytes &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
         });
}

bool IsWeights(const std::string& name) {
  constexpr absl::string_view kSuffixes[] = {
      ".bin",  ".h5", ".msgpack", ".gguf", ".ot",
      ".onnx", ".pt", ".pth",     ".ckpt", ".safetensors"};
  return std::any_of(
      std::begin(kSuffixes), std::end(kSuffixes),
      [&](absl::string_view suffix) { return absl::EndsWith(name, suffix); });
}

}  // namespace

absl::StatusOr<ModelListing> ParseModelListing(absl::string_view text) {
  const auto wrong = [](const auto&... parts) {
    return absl::FailedPreconditionError(
        absl::StrCat("the hub's description of the model ", parts...,
                     ": check HF_ENDPOINT"));
  };
  const absl::StatusOr<Json> json = ParseJson(text, "it");
  if (!json.ok()) return wrong("is no JSON (", json.status().message(), ")");
  if (!json->is_object()) return wrong("is no JSON object");
  ModelListing listing;
  listing.commit = StringOf(*json, "sha");
  if (!IsCommit(listing.commit)) return wrong("names no commit in \"sha\"");
  const auto siblings = json->find("siblings");
  if (siblings == json->end() || !siblings->is_array()) {
    return wrong("lists no files in \"siblings\"");
  }
  for (const Json& file : *siblings) {
    if (!file.is_object()) return wrong("lists files that are no objects");
    listing.files.insert(StringOf(file, "rfilename"));
  }
  absl::Time modified;
  if (absl::ParseTime(absl::RFC3339_full, StringOf(*json, "lastModified"),
                      &modified, nullptr)) {
    listing.modified_unix_seconds = absl::ToUnixSeconds(modified);
  }
  return listing;
}

absl::StatusOr<std::vector<std::string>> ChooseFiles(
    const std::string& repo, const std::set<std::string>& files) {
  const auto has = [&](const char* name) { return files.count(name) != 0; };
  std::vector<std::string> chosen;
  std::string weights = kHubWeightsFile;
  if (!has(kHubWeightsFile)) weights = kHubIndexFile;
  if (files.count(weights) == 0) {
    std::vector<std::string> others;
    for (const std::string& name : files) {
      if (IsWeights(name) && others.size() < 5) others.push_back(Quote(name));
    }
    return absl::InvalidArgumentError(absl::StrCat(
        Quote(repo), " has neither ", kHubWeightsFile, " nor ", kHubIndexFile,
        ", and no other weights are read; ",
        others.empty() ? "it has none"
                       : absl::StrCat("it has ", absl::StrJoin(others, ", "),
                                      ": save it as safetensors, or take a "
                                      "revision that has them")));
  }
  if (!has(kHubConfigFile)) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quote(repo), " has no ", kHubConfigFile));
  }
  if (has("vocab.json") && has("merges.txt")) {
    chosen = {"vocab.json", "merges.txt"};
  } else if (has("tokenizer.json")) {
    chosen = {"tokenizer.json"};
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat(Quote(repo),
                     " has neither vocab.json with merges.txt nor "
                     "tokenizer.json"));
  }
  chosen.push_back(weights);
  return chosen;
}

absl::Status CheckIsGpt2(const std::string& repo, absl::string_view config) {
  POT_ASSIGN_OR_RETURN(
      const Json json,
      ParseJson(config, absl::StrCat(Quote(repo), ", ", kHubConfigFile)));
  // Who loads it checks the rest.
  if (!json.is_object() || !json.contains("model_type") ||
      json["model_type"] == "gpt2") {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(Quote(repo), " is no GPT-2: its ", kHubConfigFile,
                   " has the model_type ", ShowJson(json["model_type"])));
}

absl::StatusOr<std::vector<std::string>> ParseShards(absl::string_view index) {
  POT_ASSIGN_OR_RETURN(const Json json, ParseJson(index, kHubIndexFile));
  const auto wrong = [](const auto&... parts) {
    return absl::InvalidArgumentError(
        absl::StrCat(kHubIndexFile, ": ", parts...));
  };
  if (!json.is_object() || !json.contains("weight_map") ||
      !json["weight_map"].is_object() || json["weight_map"].empty()) {
    return wrong("\"weight_map\" must be an object with at least one tensor");
  }
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : json["weight_map"].items()) {
    if (!shard.is_string() || !IsShardName(shard.get<std::string>())) {
      return wrong("shard ", ShowJson(shard),
                   " must be the plain name of a .safetensors file beside it");
    }
    shards.insert(shard.get<std::string>());
  }
  if (shards.size() > kMaxShards) {
    return wrong(shards.size(), " shards exceed the limit of ", kMaxShards);
  }
  return std::vector<std::string>(shards.begin(), shards.end());
}

}  // namespace pot
