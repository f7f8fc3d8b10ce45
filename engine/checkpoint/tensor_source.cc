#include "engine/checkpoint/tensor_source.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/quote.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/float_tensor.h"
#include "engine/checkpoint/safetensors.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

using Json = nlohmann::json;

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr absl::string_view kShardSuffix = ".safetensors";
constexpr size_t kMaxIndexBytes = 16 << 20;
constexpr size_t kMaxShards = 1000;

bool Exists(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0;
}

absl::StatusOr<std::string> RealPath(const std::string& path) {
  char* resolved = realpath(path.c_str(), nullptr);
  if (resolved == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", std::strerror(errno)));
  }
  std::string result = resolved;
  free(resolved);
  return result;
}

bool IsBelow(absl::string_view path, absl::string_view directory) {
  return directory == "/" ||
         (absl::ConsumePrefix(&path, directory) && absl::StartsWith(path, "/"));
}

// Where `name` of `directory` really lies. A link may only point inside the
// directory, or, as in Hugging Face's cache, from <model>/snapshots/<commit>
// into <model>/blobs.
absl::StatusOr<std::string> ResolveFile(const std::string& directory,
                                        const std::string& name) {
  POT_ASSIGN_OR_RETURN(const std::string base, RealPath(directory));
  const std::string path = absl::StrCat(directory, "/", name);
  POT_ASSIGN_OR_RETURN(std::string resolved, RealPath(path));
  if (IsBelow(resolved, base)) return resolved;
  const std::string snapshots = base.substr(0, base.rfind('/'));
  absl::string_view cache = snapshots;
  if (absl::ConsumeSuffix(&cache, "/snapshots") &&
      IsBelow(resolved, absl::StrCat(cache, "/blobs"))) {
    return resolved;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(path, " is a link to ", resolved, ", outside ", base));
}

absl::Status CheckShardName(const std::string& name,
                            const std::string& index_path) {
  const bool plain = absl::EndsWith(name, kShardSuffix) &&
                     name.front() != '.' &&
                     std::none_of(name.begin(), name.end(), [](char c) {
                       return c == '/' || c == '\\' || absl::ascii_iscntrl(c);
                     });
  if (plain) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      index_path, ": shard ", Quote(name), " must be the plain name of a ",
      kShardSuffix, " file beside the index"));
}

// Tensor name -> shard file name.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(
    const std::string& path) {
  const auto error = [&](const auto&... parts) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", parts...));
  };
  POT_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxIndexBytes));
  POT_ASSIGN_OR_RETURN(const Json json, ParseJson(text, path));
  if (!json.is_object()) return error("must be a JSON object");
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object() || map->empty()) {
    return error("\"weight_map\" must be an object with at least one tensor");
  }
  std::map<std::string, std::string> shard_of;
  for (const auto& [name, shard] : map->items()) {
    if (!shard.is_string()) {
      return error("weight_map: the shard of ", Quote(name),
                   " must be a string, not ", shard.type_name());
    }
    POT_RETURN_IF_ERROR(CheckShardName(shard.get<std::string>(), path));
    shard_of.emplace(name, shard.get<std::string>());
  }
  return shard_of;
}

class TensorSourceImpl : public TensorSource {
 public:
  explicit TensorSourceImpl(std::string directory)
      : directory_(std::move(directory)) {}

  // Files are added in the order of their names.
  absl::Status AddFile(const std::string& name);
  absl::Status AddShards();

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : tensors_) names.push_back(name);
    return names;
  }
  bool Has(absl::string_view name) const override {
    return tensors_.count(std::string(name)) != 0;
  }
  absl::StatusOr<std::vector<float>> ReadFloats(
      absl::string_view name, absl::Span<const int64_t> shape) const override;
  absl::StatusOr<std::string> Digest() const override;
  absl::Status CopyFiles(const std::string& directory) const override;

 private:
  // `name` is the link's where there is one.
  struct File {
    std::string name;
    ForeignFile file;
  };
  struct Tensor {
    SafetensorsHeader::Tensor header;
    size_t file;  // index into weight_files_
  };

  std::string directory_;
  std::vector<File> weight_files_;
  std::optional<File> index_;
  std::map<std::string, Tensor> tensors_;
};

absl::Status TensorSourceImpl::AddFile(const std::string& name) {
  POT_ASSIGN_OR_RETURN(const std::string path, ResolveFile(directory_, name));
  POT_ASSIGN_OR_RETURN(ForeignFile file, ForeignFile::Open(path));
  POT_ASSIGN_OR_RETURN(SafetensorsHeader header, SafetensorsHeader::Read(file));
  for (auto& [tensor, entry] : header.tensors) {
    const auto [at, added] = tensors_.emplace(
        tensor, Tensor{std::move(entry), weight_files_.size()});
    if (!added) {
      return absl::InvalidArgumentError(absl::StrCat(
          directory_, ": tensor ", Quote(tensor), " is in two shards, ",
          Quote(weight_files_[at->second.file].name), " and ", Quote(name)));
    }
  }
  weight_files_.push_back({name, std::move(file)});
  return absl::OkStatus();
}

absl::Status TensorSourceImpl::AddShards() {
  const std::string index_path = absl::StrCat(directory_, "/", kIndexFile);
  POT_ASSIGN_OR_RETURN(const std::string resolved,
                       ResolveFile(directory_, kIndexFile));
  // First, so that a change after this reading is noticed.
  POT_ASSIGN_OR_RETURN(ForeignFile index, ForeignFile::Open(resolved));
  index_ = File{kIndexFile, std::move(index)};
  POT_ASSIGN_OR_RETURN(const auto shard_of, ReadIndex(resolved));
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : shard_of) shards.insert(shard);
  if (shards.size() > kMaxShards) {
    return absl::InvalidArgumentError(
        absl::StrCat(index_path, ": ", shards.size(),
                     " shards exceed the limit of ", kMaxShards));
  }
  for (const std::string& shard : shards) {
    if (!Exists(absl::StrCat(directory_, "/", shard))) {
      return absl::InvalidArgumentError(
          absl::StrCat(index_path, ": shard ", Quote(shard), " is missing"));
    }
    POT_RETURN_IF_ERROR(AddFile(shard));
  }
  for (const auto& [tensor, shard] : shard_of) {
    const auto found = tensors_.find(tensor);
    if (found == tensors_.end() ||
        weight_files_[found->second.file].name != shard) {
      return absl::InvalidArgumentError(
          absl::StrCat(index_path, ": tensor ", Quote(tensor),
                       " is not in its shard ", Quote(shard)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> TensorSourceImpl::ReadFloats(
    absl::string_view name, absl::Span<const int64_t> shape) const {
  const auto found = tensors_.find(std::string(name));
  if (found == tensors_.end()) {
    return absl::NotFoundError(
        absl::StrCat(directory_, ": no tensor ", Quote(name)));
  }
  const File& file = weight_files_[found->second.file];
  return ReadFloatTensor(
      file.file, found->second.header, shape,
      absl::StrCat(directory_, "/", file.name, ": tensor ", Quote(name)));
}

absl::StatusOr<std::string> TensorSourceImpl::Digest() const {
  Sha256 digest;
  for (const File& weights : weight_files_) {
    POT_RETURN_IF_ERROR(
        weights.file.ReadPieces([&](absl::Span<const uint8_t> piece) {
          digest.Update(piece);
          return absl::OkStatus();
        }));
  }
  return digest.HexDigest();
}

absl::Status TensorSourceImpl::CopyFiles(const std::string& directory) const {
  for (const File& weights : weight_files_) {
    POT_RETURN_IF_ERROR(
        CopyFile(weights.file, absl::StrCat(directory, "/", weights.name)));
  }
  if (!index_.has_value()) return absl::OkStatus();
  return CopyFile(index_->file, absl::StrCat(directory, "/", index_->name));
}

}  // namespace

absl::StatusOr<std::unique_ptr<const TensorSource>> TensorSource::Open(
    const std::string& directory) {
  auto source = std::make_unique<TensorSourceImpl>(directory);
  if (Exists(absl::StrCat(directory, "/", kSingleFile))) {
    POT_RETURN_IF_ERROR(source->AddFile(kSingleFile));
  } else if (Exists(absl::StrCat(directory, "/", kIndexFile))) {
    POT_RETURN_IF_ERROR(source->AddShards());
  } else {
    return absl::NotFoundError(absl::StrCat(directory, " has neither ",
                                            kSingleFile, " nor ", kIndexFile));
  }
  return std::unique_ptr<const TensorSource>(std::move(source));
}

}  // namespace pot
