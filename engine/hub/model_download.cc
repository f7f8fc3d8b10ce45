#include "engine/hub/model_download.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/file.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/hub/hub_cache.h"
#include "engine/hub/hub_transfer.h"
#include "engine/hub/model_listing.h"
#include "engine/hub/partial_file.h"

namespace pot {
namespace {

constexpr size_t kMaxListingBytes = 16 << 20;
constexpr int64_t kMaxConfigBytes = 1 << 20;
constexpr int64_t kMaxIndexBytes = 16 << 20;
constexpr int64_t kMaxTokenizerBytes = 64 << 20;

int64_t LimitOf(const std::string& file) {
  if (file == kHubConfigFile) return kMaxConfigBytes;
  if (file == kHubIndexFile) return kMaxIndexBytes;
  if (file == "vocab.json" || file == "merges.txt" ||
      file == "tokenizer.json") {
    return kMaxTokenizerBytes;
  }
  return kMaxHubModelBytes;
}

class Download {
 public:
  Download(const HubId& id, const HubSettings& settings, const Url& endpoint,
           const HubHooks& hooks, Http* http)
      : id_(id),
        settings_(settings),
        hooks_(hooks),
        cache_(settings.cache, id),
        transfer_hooks_{.go_on = [this] { return GoOn(); },
                        .note = hooks.note,
                        .sleep = hooks.sleep},
        transfer_(settings, endpoint, id, http, transfer_hooks_) {}

  absl::StatusOr<HubModel> Run();

 private:
  bool GoOn() const {
    const int64_t now = partial_ == nullptr ? 0 : partial_->size();
    return hooks_.progress == nullptr ||
           hooks_.progress(done_ + now, total_, what_);
  }
  absl::StatusOr<ModelListing> Ask();
  // The snapshot of `commit`, if the cache has all that is needed, unharmed.
  absl::StatusOr<HubModel> FromCache(const std::string& commit);
  std::string FileUrl(const std::string& commit, const std::string& file) const;
  // What the hub says of it, checked.
  absl::StatusOr<HubFileInfo> Inspect(const std::string& commit,
                                      const std::string& file);
  // Whether the snapshot has it already; takes a damaged blob away.
  absl::StatusOr<bool> HasFile(const std::string& commit,
                               const std::string& file);
  absl::Status Fetch(const std::string& commit, const std::string& file,
                     const HubFileInfo& info);
  absl::Status FetchBlob(const std::string& commit, const std::string& file,
                         const HubFileInfo& info);
  absl::Status Get(const std::string& commit, const std::string& file);
  absl::Status GetWeights(const std::string& commit,
                          const std::vector<std::string>& files);
  absl::Status CheckDisk(int64_t bytes) const;
  absl::StatusOr<std::string> Read(const std::string& commit,
                                   const std::string& file) const {
    return ReadFile(absl::StrCat(cache_.SnapshotDirectory(commit), "/", file),
                    static_cast<size_t>(LimitOf(file)));
  }

  const HubId& id_;
  const HubSettings& settings_;
  const HubHooks& hooks_;
  const HubCache cache_;
  const TransferHooks transfer_hooks_;
  HubTransfer transfer_;
  std::string what_;
  int64_t done_ = 0;
  int64_t total_ = 0;
  const PartialFile* partial_ = nullptr;
};

absl::StatusOr<ModelListing> Download::Ask() {
  what_ = id_.repo;
  POT_ASSIGN_OR_RETURN(
      const std::string text,
      transfer_.ReadText(
          absl::StrCat(settings_.endpoint, "/api/models/", id_.repo,
                       "/revision/", EscapeUrlPart(id_.revision)),
          "", kMaxListingBytes));
  return ParseModelListing(text);
}

std::string Download::FileUrl(const std::string& commit,
                              const std::string& file) const {
  return absl::StrCat(settings_.endpoint, "/", id_.repo, "/resolve/", commit,
                      "/", EscapeUrlPart(file));
}

absl::StatusOr<HubFileInfo> Download::Inspect(const std::string& commit,
                                              const std::string& file) {
  what_ = file;
  POT_ASSIGN_OR_RETURN(const HubFileInfo info,
                       transfer_.Inspect(FileUrl(commit, file), file));
  const auto wrong = [&](const auto&... parts) {
    return absl::FailedPreconditionError(
        absl::StrCat(Quote(id_.repo), ", ", Quote(file), ": ", parts...));
  };
  if (!info.commit.empty() && info.commit != commit) {
    return wrong("the hub answered for commit ", Quote(info.commit),
                 " instead of ", commit);
  }
  if (!IsFileDigest(info.etag)) {
    return wrong("the hub announces no digest to check it against (ETag ",
                 Quote(info.etag), "): check HF_ENDPOINT");
  }
  if (info.size < 0 || info.size > LimitOf(file)) {
    return wrong("the hub announces ",
                 info.size < 0 ? std::string("no size")
                               : absl::StrCat(info.size, " bytes"),
                 "; the limit is ", LimitOf(file));
  }
  return info;
}

absl::StatusOr<bool> Download::HasFile(const std::string& commit,
                                       const std::string& file) {
  const absl::StatusOr<std::string> digest = cache_.LinkedDigest(commit, file);
  if (!digest.ok()) return false;
  const absl::StatusOr<bool> same =
      HasDigest(cache_.BlobPath(*digest), *digest);
  return same.ok() && *same;
}

absl::Status Download::Fetch(const std::string& commit, const std::string& file,
                             const HubFileInfo& info) {
  what_ = file;
  const std::string lock_path = cache_.LockPath(info.etag);
  FileLock lock;
  for (bool told = false;;) {
    POT_ASSIGN_OR_RETURN(const bool locked,
                         FileLock::TryLock(lock_path, &lock));
    if (locked) break;
    if (!told && hooks_.note != nullptr) {
      hooks_.note(absl::StrCat("another process downloads ", Quote(file),
                               ": waiting for it"));
    }
    told = true;
    if (!GoOn()) return absl::CancelledError("the download was cancelled");
    absl::SleepFor(absl::Milliseconds(100));
  }
  const absl::StatusOr<bool> there =
      HasDigest(cache_.BlobPath(info.etag), info.etag);
  if (!there.ok() || !*there) {
    POT_RETURN_IF_ERROR(FetchBlob(commit, file, info));
  }
  done_ += info.size;
  return cache_.Link(commit, file, info.etag);
}

absl::Status Download::FetchBlob(const std::string& commit,
                                 const std::string& file,
                                 const HubFileInfo& info) {
  POT_ASSIGN_OR_RETURN(PartialFile partial,
                       PartialFile::Open(cache_.PartialPath(info.etag)));
  // Of a file that an earlier process began, or a crash left with holes, the
  // digest may be wrong once.
  bool continued = partial.size() > 0;
  while (true) {
    partial_ = &partial;
    const absl::Status fetched =
        transfer_.Fetch(FileUrl(commit, file), file, info.size, &partial);
    partial_ = nullptr;
    POT_RETURN_IF_ERROR(fetched);
    POT_ASSIGN_OR_RETURN(const bool right,
                         HasDigest(partial.path(), info.etag));
    if (right) return partial.Publish(cache_.BlobPath(info.etag));
    POT_RETURN_IF_ERROR(partial.Restart());
    if (!continued) {
      return absl::DataLossError(absl::StrCat(
          Quote(id_.repo), ", ", Quote(file),
          ": what came does not have the digest that the hub announced, ",
          info.etag, ": try again, without a proxy if there is one"));
    }
    continued = false;
  }
}

absl::Status Download::Get(const std::string& commit, const std::string& file) {
  POT_ASSIGN_OR_RETURN(const bool there, HasFile(commit, file));
  if (there) return absl::OkStatus();
  POT_ASSIGN_OR_RETURN(const HubFileInfo info, Inspect(commit, file));
  return Fetch(commit, file, info);
}

absl::Status Download::CheckDisk(int64_t bytes) const {
  struct statvfs info;
  int64_t available = 0;
  if (statvfs(settings_.cache.c_str(), &info) != 0 ||
      __builtin_mul_overflow(info.f_bavail, info.f_frsize, &available)) {
    return absl::OkStatus();
  }
  if (bytes > available) {
    return absl::ResourceExhaustedError(
        absl::StrCat(Quote(id_.repo), " needs ", bytes, " bytes in the cache ",
                     settings_.cache, ", whose disk has ", available,
                     ": make room, or name another cache by HF_HUB_CACHE"));
  }
  return hooks_.reserve == nullptr ? absl::OkStatus() : hooks_.reserve(bytes);
}

absl::Status Download::GetWeights(const std::string& commit,
                                  const std::vector<std::string>& files) {
  std::map<std::string, HubFileInfo> wanted;
  int64_t bytes = 0;
  int64_t missing = 0;
  for (const std::string& file : files) {
    POT_ASSIGN_OR_RETURN(const bool there, HasFile(commit, file));
    if (there) continue;
    POT_ASSIGN_OR_RETURN(const HubFileInfo info, Inspect(commit, file));
    bytes += info.size;  // each at most the limit, which is checked each time
    if (bytes > kMaxHubModelBytes) {
      return absl::FailedPreconditionError(absl::StrCat(
          Quote(id_.repo), " has more than ", kMaxHubModelBytes, " bytes"));
    }
    int64_t have = 0;
    if (const auto partial = ForeignFile::Open(cache_.PartialPath(info.etag));
        partial.ok()) {
      have =
          std::min<int64_t>(static_cast<int64_t>(partial->size()), info.size);
    }
    missing += info.size - have;
    wanted.emplace(file, info);
  }
  total_ = done_ + bytes;
  if (!wanted.empty()) POT_RETURN_IF_ERROR(CheckDisk(missing));
  for (const auto& [file, info] : wanted) {
    POT_RETURN_IF_ERROR(Fetch(commit, file, info));
  }
  return absl::OkStatus();
}

absl::StatusOr<HubModel> Download::FromCache(const std::string& commit) {
  HubModel model;
  model.directory = cache_.SnapshotDirectory(commit);
  model.commit = commit;
  std::set<std::string> files;
  for (const char* const file :
       {kHubConfigFile, kHubWeightsFile, kHubIndexFile, "vocab.json",
        "merges.txt", "tokenizer.json"}) {
    POT_ASSIGN_OR_RETURN(const bool there, HasFile(commit, file));
    if (there) files.insert(file);
  }
  POT_ASSIGN_OR_RETURN(model.files, ChooseFiles(id_.repo, files));
  if (model.files.back() == kHubIndexFile) {
    POT_ASSIGN_OR_RETURN(const std::string index, Read(commit, kHubIndexFile));
    POT_ASSIGN_OR_RETURN(const std::vector<std::string> shards,
                         ParseShards(index));
    for (const std::string& shard : shards) {
      POT_ASSIGN_OR_RETURN(const bool there, HasFile(commit, shard));
      if (!there) return absl::NotFoundError(shard);
      model.files.push_back(shard);
    }
  }
  model.files.insert(model.files.begin(), kHubConfigFile);
  return model;
}

absl::StatusOr<HubModel> Download::Run() {
  if (settings_.cache.empty()) {
    return absl::InvalidArgumentError(
        "there is no place for a cache: set HF_HUB_CACHE or HOME");
  }
  // A commit never changes.
  std::string known = IsCommit(id_.revision) ? id_.revision : "";
  if (settings_.offline && known.empty()) {
    known = cache_.ReadRef(id_.revision).value_or("");
  }
  if (!known.empty()) {
    absl::StatusOr<HubModel> model = FromCache(known);
    if (model.ok()) return model;
  }
  if (settings_.offline) {
    return absl::NotFoundError(
        absl::StrCat("the cache ", settings_.cache, " does not have all of ",
                     id_.text(), ", and HF_HUB_OFFLINE is set"));
  }
  POT_ASSIGN_OR_RETURN(const ModelListing listing, Ask());
  POT_ASSIGN_OR_RETURN(std::vector<std::string> files,
                       ChooseFiles(id_.repo, listing.files));
  POT_RETURN_IF_ERROR(cache_.Prepare(listing.commit));
  HubModel model;
  model.directory = cache_.SnapshotDirectory(listing.commit);
  model.commit = listing.commit;
  model.modified_unix_seconds = listing.modified_unix_seconds;
  model.files = {kHubConfigFile};
  POT_RETURN_IF_ERROR(Get(model.commit, kHubConfigFile));
  POT_ASSIGN_OR_RETURN(const std::string config,
                       Read(model.commit, kHubConfigFile));
  POT_RETURN_IF_ERROR(CheckIsGpt2(id_.repo, config));
  std::vector<std::string> weights = {files.back()};
  files.pop_back();
  if (weights.front() == kHubIndexFile) files.push_back(kHubIndexFile);
  for (const std::string& file : files) {
    POT_RETURN_IF_ERROR(Get(model.commit, file));
    model.files.push_back(file);
  }
  if (weights.front() == kHubIndexFile) {
    POT_ASSIGN_OR_RETURN(const std::string index,
                         Read(model.commit, kHubIndexFile));
    POT_ASSIGN_OR_RETURN(weights, ParseShards(index));
  }
  POT_RETURN_IF_ERROR(GetWeights(model.commit, weights));
  model.files.insert(model.files.end(), weights.begin(), weights.end());
  if (id_.revision != model.commit) {
    POT_RETURN_IF_ERROR(cache_.WriteRef(id_.revision, model.commit));
  }
  return model;
}

}  // namespace

absl::StatusOr<HubModel> DownloadHubModel(const HubId& id,
                                          const HubSettings& settings,
                                          const HubHooks& hooks, Http* http) {
  POT_ASSIGN_OR_RETURN(const Url endpoint, HubEndpoint(settings));
  return Download(id, settings, endpoint, hooks, http).Run();
}

absl::StatusOr<HubModel> DownloadHubModel(const HubId& id,
                                          const HubSettings& settings,
                                          const HubHooks& hooks) {
  const std::unique_ptr<Http> http =
      NewCurlHttp({.user_agent = settings.user_agent,
                   .ca_file = settings.ca_file,
                   .stall_timeout = settings.stall_timeout});
  return DownloadHubModel(id, settings, hooks, http.get());
}

}  // namespace pot
