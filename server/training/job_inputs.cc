#include "server/training/job_inputs.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/manifest.h"
#include "server/serving/error_details.h"
#include "server/serving/version_description.h"
#include "server/training/job_files.h"

namespace pot {
namespace {

absl::StatusOr<std::vector<InputFile>> FilesOf(const ModelVersionInfo& info,
                                               ModelRepository* repository) {
  const std::string directory =
      absl::StrCat(repository->root(), "/", info.name, "/", info.version);
  const absl::StatusOr<Manifest> manifest = ReadManifest(directory);
  if (!manifest.ok()) return CheckpointError(manifest.status());
  std::vector<InputFile> files;
  for (const auto& [name, entry] : manifest->files) {
    InputFile input;
    input.file.set_path(name);
    input.file.set_size_bytes(entry.bytes);
    input.file.set_sha256(entry.sha256);
    input.path = absl::StrCat(directory, "/", name);
    files.push_back(std::move(input));
  }
  return files;
}

absl::Status DatasetNotFound(absl::string_view sha256) {
  return WithDetails(
      absl::NotFoundError(absl::StrCat(
          "the job uses no dataset with the digest ", Quote(sha256))),
      {.reason = "DATASET_NOT_FOUND", .metadata = {{"value", Quote(sha256)}}});
}

void AddFiles(const std::vector<InputFile>& inputs,
              google::protobuf::RepeatedPtrField<v1::StoredFile>* files) {
  for (const InputFile& input : inputs) *files->Add() = input.file;
}

absl::StatusOr<v1::StoredFile> DescribeDataset(const std::string& sha256,
                                               QatJobStore* store) {
  POT_ASSIGN_OR_RETURN(const v1::Dataset dataset, store->GetDataset(sha256));
  v1::StoredFile file;
  file.set_size_bytes(dataset.size_bytes());
  file.set_sha256(dataset.sha256());
  return file;
}

}  // namespace

ModelSelector SelectorOf(const v1::ModelRef& ref) {
  ModelSelector selector;
  selector.name = ref.name();
  if (ref.has_version()) selector.version = ref.version();
  selector.alias = ref.alias();
  selector.digest = ref.digest();
  return selector;
}

absl::StatusOr<ModelFiles> FindModelFiles(const v1::QatJobSpec& spec,
                                          ModelRepository* repository) {
  ModelFiles files;
  POT_ASSIGN_OR_RETURN(const ModelVersionInfo base,
                       repository->Get(SelectorOf(spec.base())));
  POT_ASSIGN_OR_RETURN(files.base, FilesOf(base, repository));
  if (!spec.distillation().has_teacher()) return files;
  POT_ASSIGN_OR_RETURN(
      const ModelVersionInfo teacher,
      repository->Get(SelectorOf(spec.distillation().teacher())));
  if (teacher.digest == base.digest) return files;
  POT_ASSIGN_OR_RETURN(files.teacher, FilesOf(teacher, repository));
  return files;
}

absl::StatusOr<InputFile> FindDataset(const v1::QatJobSpec& spec,
                                      absl::string_view sha256,
                                      QatJobStore* store,
                                      const std::string& root) {
  const auto& used = spec.data().datasets().sha256();
  const bool known =
      !sha256.empty() &&
      (spec.data().validation_sha256() == sha256 ||
       std::find(used.begin(), used.end(), sha256) != used.end());
  if (!known) return DatasetNotFound(sha256);
  InputFile input;
  POT_ASSIGN_OR_RETURN(input.file, DescribeDataset(std::string(sha256), store));
  input.path = absl::StrCat(DatasetsDirectory(root), "/", sha256);
  return input;
}

std::vector<InputFile> SnapshotFiles(const StoredSnapshot& snapshot,
                                     const std::string& root) {
  std::vector<InputFile> files;
  for (const v1::StoredFile& file : snapshot.snapshot.files()) {
    files.push_back({file, absl::StrCat(JobDirectory(root, snapshot.directory),
                                        "/", file.path())});
  }
  return files;
}

const InputFile* FindByDigest(const std::vector<InputFile>& files,
                              absl::string_view sha256) {
  for (const InputFile& input : files) {
    if (input.file.sha256() == sha256) return &input;
  }
  return nullptr;
}

absl::StatusOr<v1::Lease> DescribeLease(const QatJobLease& lease,
                                        ModelRepository* repository,
                                        QatJobStore* store) {
  const v1::QatJobSpec& spec = lease.job.spec();
  v1::Lease message;
  *message.mutable_key() = lease.key;
  *message.mutable_spec() = spec;
  POT_ASSIGN_OR_RETURN(const ModelFiles files,
                       FindModelFiles(spec, repository));
  AddFiles(files.base, message.mutable_base_files());
  AddFiles(files.teacher, message.mutable_teacher_files());
  for (const std::string& sha256 : spec.data().datasets().sha256()) {
    POT_ASSIGN_OR_RETURN(*message.add_datasets(),
                         DescribeDataset(sha256, store));
  }
  if (!spec.data().validation_sha256().empty()) {
    POT_ASSIGN_OR_RETURN(
        *message.mutable_validation(),
        DescribeDataset(spec.data().validation_sha256(), store));
  }
  if (lease.snapshot.has_value()) {
    *message.mutable_snapshot() = lease.snapshot->snapshot;
  }
  return message;
}

}  // namespace pot
