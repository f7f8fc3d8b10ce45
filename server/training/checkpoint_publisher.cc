#include "server/training/checkpoint_publisher.h"

#include <unistd.h>

#include <limits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/manifest.h"
#include "server/serving/error_details.h"
#include "server/serving/version_description.h"

namespace pot {
namespace {

// Where the alias points now; 0: nowhere.
absl::StatusOr<int64_t> AliasTarget(ModelRepository* repository,
                                    const std::string& model,
                                    const std::string& alias) {
  const absl::StatusOr<std::vector<AliasChange>> history =
      repository->AliasHistory(model, alias, 1);
  // A model that is new has no aliases.
  if (absl::IsNotFound(history.status())) return 0;
  POT_RETURN_IF_ERROR(history.status());
  return history->empty() ? 0 : history->front().to_version;
}

// Further names for the same files, which nobody changes any more; copies where
// the file system has no such thing, or is another one.
absl::Status LinkInto(const std::string& from, const Manifest& manifest,
                      const std::string& to) {
  std::vector<std::string> names = {kManifestFile};
  for (const auto& [name, entry] : manifest.files) names.push_back(name);
  for (const std::string& name : names) {
    const std::string source = absl::StrCat(from, "/", name);
    const std::string target = absl::StrCat(to, "/", name);
    // Never of a symbolic link's target; what is wrong is found by Register().
    if (link(source.c_str(), target.c_str()) == 0) continue;
    POT_ASSIGN_OR_RETURN(const ForeignFile file, ForeignFile::Open(source));
    POT_RETURN_IF_ERROR(CopyFile(file, target));
  }
  return absl::OkStatus();
}

}  // namespace

std::string PublishComment(const std::string& job_id,
                           const std::string& comment) {
  return absl::StrCat("qat job ", job_id, comment.empty() ? "" : ": ", comment);
}

absl::StatusOr<std::optional<AliasChange>> FindPublication(
    ModelRepository* repository, const std::string& model,
    const std::string& alias, int64_t version, const std::string& job_id) {
  const absl::StatusOr<std::vector<AliasChange>> history =
      repository->AliasHistory(model, alias,
                               std::numeric_limits<int64_t>::max());
  if (absl::IsNotFound(history.status())) return std::nullopt;
  POT_RETURN_IF_ERROR(history.status());
  const std::string comment = PublishComment(job_id, "");
  for (const AliasChange& change : *history) {
    if (change.cause == AliasChangeCause::kPublish &&
        change.to_version == version &&
        (change.comment == comment ||
         absl::StartsWith(change.comment, comment + ": "))) {
      return change;
    }
  }
  return std::nullopt;
}

absl::StatusOr<ModelVersionInfo> CheckpointPublisher::Register(
    const PublishOrder& order) {
  const absl::StatusOr<Manifest> manifest =
      ReadManifest(order.checkpoint_directory);
  if (!manifest.ok()) return CheckpointError(manifest.status());
  const absl::StatusOr<ModelVersionInfo> known =
      repository_->Get({.name = order.model, .digest = manifest->digest});
  if (!absl::IsNotFound(known.status())) return known;
  POT_RETURN_IF_ERROR(repository_->CheckDiskSpace(manifest->total_bytes()));
  POT_ASSIGN_OR_RETURN(StagedVersion staged, repository_->Stage(order.model));
  POT_RETURN_IF_ERROR(
      LinkInto(order.checkpoint_directory, *manifest, staged.directory()));
  return repository_->Register(std::move(staged), order.model, 0);
}

absl::StatusOr<std::optional<AliasChange>> CheckpointPublisher::MoveAlias(
    const PublishOrder& order, int64_t version, int64_t previous) {
  AliasChange change;
  change.model = order.model;
  change.alias = order.alias;
  change.to_version = version;
  change.cause = AliasChangeCause::kPublish;
  change.actor = order.actor;
  change.comment = PublishComment(order.job_id, order.comment);
  change.time = now_();
  return repository_->SetAlias(std::move(change), previous);
}

absl::StatusOr<Publication> CheckpointPublisher::Publish(
    const PublishOrder& order) {
  MutexLock lock(&publishing_);
  absl::StatusOr<Publication> publication = DoPublish(order);
  ++(publication.ok() ? counters_.published : counters_.failed);
  return publication;
}

absl::StatusOr<Publication> CheckpointPublisher::DoPublish(
    const PublishOrder& order) {
  int64_t previous = 0;
  if (!order.alias.empty()) {
    POT_RETURN_IF_ERROR(ValidateAlias(order.alias));
    POT_ASSIGN_OR_RETURN(previous,
                         AliasTarget(repository_, order.model, order.alias));
  }
  POT_ASSIGN_OR_RETURN(const ModelVersionInfo info, Register(order));
  Publication publication;
  publication.identity = {info.name, info.version, info.digest};
  if (!order.alias.empty()) {
    POT_ASSIGN_OR_RETURN(publication.alias_change,
                         FindPublication(repository_, order.model, order.alias,
                                         info.version, order.job_id));
    // What the job has done once is for people to undo and redo.
    if (publication.alias_change.has_value()) return publication;
  }
  POT_RETURN_IF_ERROR(repository_
                          ->Load({.name = info.name, .version = info.version},
                                 absl::InfiniteFuture())
                          .status());
  if (order.alias.empty()) return publication;
  POT_ASSIGN_OR_RETURN(publication.alias_change,
                       MoveAlias(order, info.version, previous));
  return publication;
}

}  // namespace pot
