#include "server/training/upload_acceptor.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/directory.h"
#include "engine/checkpoint/manifest.h"
#include "engine/gpt2/engine_version.h"
#include "server/serving/error_details.h"
#include "server/serving/model_loader.h"
#include "server/serving/relative_paths.h"
#include "server/training/job_files.h"
#include "server/training/job_inputs.h"

namespace pot {
namespace {

constexpr char kCheckpoints[] = "checkpoints";
constexpr char kSnapshots[] = "snapshots";

bool IsAnnounced(const v1::UploadHeader& header, const std::string& name) {
  return std::any_of(
      header.files().begin(), header.files().end(),
      [&](const v1::StoredFile& file) { return file.path() == name; });
}

// But for the manifest, which says when it was written.
bool SameFiles(const Manifest& manifest, const v1::UploadHeader& header) {
  size_t files = 0;
  for (const v1::StoredFile& file : header.files()) {
    if (file.path() == kManifestFile) continue;
    const auto known = manifest.files.find(file.path());
    if (known == manifest.files.end() ||
        known->second.sha256 != file.sha256()) {
      return false;
    }
    ++files;
  }
  return files == manifest.files.size();
}

bool SameFiles(const v1::Snapshot& snapshot, const v1::UploadHeader& header) {
  return snapshot.step() == header.step() &&
         std::equal(snapshot.files().begin(), snapshot.files().end(),
                    header.files().begin(), header.files().end(),
                    [](const v1::StoredFile& a, const v1::StoredFile& b) {
                      return a.path() == b.path() && a.sha256() == b.sha256();
                    });
}

absl::Status Corrupt(const std::string& message) {
  return WithDetails(absl::DataLossError(message),
                     {.reason = "CORRUPT_CHECKPOINT"});
}

// A checkpoint takes its base's place: same context, same vocabulary.
absl::Status CheckShape(const Gpt2Config& base, const Gpt2Config& checkpoint) {
  const struct {
    const char* name;
    int64_t base, checkpoint;
  } sizes[] = {
      {"n_layer", base.n_layer, checkpoint.n_layer},
      {"n_head", base.n_head, checkpoint.n_head},
      {"n_embd", base.n_embd, checkpoint.n_embd},
      {"n_positions", base.n_positions, checkpoint.n_positions},
      {"vocab_size", base.vocab_size, checkpoint.vocab_size},
  };
  for (const auto& size : sizes) {
    if (size.base != size.checkpoint) {
      return Corrupt(absl::StrCat("the checkpoint's ", size.name, " is ",
                                  size.checkpoint, ", the base's ", size.base));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::optional<v1::JobCheckpoint>> UploadAcceptor::FindCheckpoint(
    const v1::UploadHeader& header) {
  POT_RETURN_IF_ERROR(store_->CheckLease(header.lease()).status());
  // An empty identifier would mean the best one.
  if (header.upload_id().empty()) return std::nullopt;
  const absl::StatusOr<StoredCheckpoint> known =
      store_->GetCheckpoint(header.lease().job_id(), header.upload_id());
  if (absl::IsNotFound(known.status())) return std::nullopt;
  POT_RETURN_IF_ERROR(known.status());
  const absl::StatusOr<Manifest> manifest =
      ReadManifest(JobDirectory(root_, known->directory));
  if (manifest.ok() && SameFiles(*manifest, header)) return known->checkpoint;
  return WithDetails(
      absl::AlreadyExistsError(absl::StrCat(
          "the job has a checkpoint ", header.upload_id(),
          " of other files; every upload needs its own identifier")),
      {.reason = "CHECKPOINT_EXISTS",
       .metadata = {{"value", header.upload_id()}}});
}

absl::StatusOr<std::optional<v1::Snapshot>> UploadAcceptor::FindSnapshot(
    const v1::UploadHeader& header) {
  POT_RETURN_IF_ERROR(store_->CheckLease(header.lease()).status());
  POT_ASSIGN_OR_RETURN(const std::optional<StoredSnapshot> known,
                       store_->LeaseSnapshot(header.lease()));
  if (!known.has_value() || !SameFiles(known->snapshot, header)) {
    return std::nullopt;
  }
  return known->snapshot;
}

absl::StatusOr<UploadPosition> UploadAcceptor::Find(
    const v1::LeaseKey& lease, const std::string& upload_id) {
  POT_RETURN_IF_ERROR(store_->CheckLease(lease).status());
  POT_ASSIGN_OR_RETURN(UploadPosition position,
                       uploads_->Find(lease.job_id(), upload_id));
  if (position.complete || position.offset > 0 || position.file_index > 0) {
    return position;
  }
  POT_ASSIGN_OR_RETURN(const std::optional<StoredSnapshot> snapshot,
                       store_->LeaseSnapshot(lease));
  const std::string prefix = absl::StrCat(lease.job_id(), "/", kSnapshots, "/",
                                          upload_id, ".", lease.epoch(), ".");
  position.complete =
      store_->GetCheckpoint(lease.job_id(), upload_id).ok() ||
      (snapshot.has_value() && absl::StartsWith(snapshot->directory, prefix));
  return position;
}

absl::StatusOr<std::string> UploadAcceptor::Publish(Upload* upload,
                                                    const std::string& kind) {
  const v1::UploadHeader& header = upload->header();
  // A directory of that name may yet be waiting to be removed.
  for (int64_t attempt = 0;; ++attempt) {
    const std::string directory = absl::StrCat(
        header.lease().job_id(), "/", kind, "/", header.upload_id(), ".",
        header.lease().epoch(), ".", attempt);
    const std::string path = JobDirectory(root_, directory);
    if (IsDirectory(path)) continue;
    POT_RETURN_IF_ERROR(upload->Publish(path));
    return directory;
  }
}

absl::Status UploadAcceptor::Remove(const std::string& directory) const {
  return RemoveTree(JobDirectory(root_, directory));
}

absl::Status UploadAcceptor::CheckModel(const v1::QatJobSpec& spec,
                                        const std::string& directory,
                                        std::string* digest,
                                        int64_t* bytes) const {
  POT_ASSIGN_OR_RETURN(const VerifiedModel verified,
                       VerifyAndLoad(directory, "checkpoint", 0, load_,
                                     [](ModelVersionState) {}));
  const ModelVersionInfo& info = verified.description.info;
  if (info.format == "f32") {
    return Corrupt("the checkpoint has no file of exponents");
  }
  *digest = info.digest;
  *bytes = info.file_bytes;
  POT_ASSIGN_OR_RETURN(const ModelVersionInfo base,
                       repository_->Get(SelectorOf(spec.base())));
  return CheckShape(base.config, info.config);
}

absl::StatusOr<v1::JobCheckpoint> UploadAcceptor::AcceptCheckpoint(
    Upload* upload, const v1::CheckpointEvaluation& evaluation) {
  const v1::UploadHeader& header = upload->header();
  POT_RETURN_IF_ERROR(upload->Verify());
  POT_ASSIGN_OR_RETURN(const v1::QatJob job,
                       store_->CheckLease(header.lease()));
  const std::string files = upload->files_directory();
  if (!IsAnnounced(header, kManifestFile)) {
    // What an attempt that a crash ended may have left.
    unlink(absl::StrCat(files, "/", kManifestFile).c_str());
    POT_RETURN_IF_ERROR(
        WriteManifest(files, absl::ToUnixSeconds(absl::Now()), kEngineVersion)
            .status());
  }
  v1::JobCheckpoint checkpoint;
  checkpoint.set_checkpoint_id(header.upload_id());
  checkpoint.set_step(header.step());
  *checkpoint.mutable_evaluation() = evaluation;
  int64_t bytes = 0;
  const absl::Status checked =
      CheckModel(job.spec(), files, checkpoint.mutable_digest(), &bytes);
  if (!checked.ok()) {
    if (absl::IsDataLoss(checked)) upload->Discard().IgnoreError();
    return RelativePaths(files, root_).In(checked);
  }
  checkpoint.set_size_bytes(bytes);
  POT_ASSIGN_OR_RETURN(const std::string directory,
                       Publish(upload, kCheckpoints));
  absl::StatusOr<v1::JobCheckpoint> stored =
      store_->AddCheckpoint(header.lease(), checkpoint, directory);
  if (!stored.ok()) Remove(directory).IgnoreError();
  return stored;
}

absl::StatusOr<v1::Snapshot> UploadAcceptor::AcceptSnapshot(Upload* upload) {
  const v1::UploadHeader& header = upload->header();
  POT_RETURN_IF_ERROR(upload->Verify());
  v1::Snapshot snapshot;
  snapshot.set_step(header.step());
  *snapshot.mutable_files() = header.files();
  POT_ASSIGN_OR_RETURN(const std::string directory,
                       Publish(upload, kSnapshots));
  const absl::Status stored =
      store_->SetSnapshot(header.lease(), snapshot, directory);
  if (!stored.ok()) {
    Remove(directory).IgnoreError();
    return stored;
  }
  // Snapshots are large: the one before goes now, or else with a later sweep.
  SweepJobGarbage(store_, root_).IgnoreError();
  return snapshot;
}

}  // namespace pot
