#include "server/serving/version_description.h"

#include <filesystem>
#include <memory>
#include <set>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/exponent_checkpoint.h"
#include "engine/gpt2/float_model.h"
#include "engine/gpt2/tensor_table.h"
#include "server/serving/error_details.h"
#include "server/serving/model_import.h"

namespace pot {
namespace {

// Collects what the matrices of one kind have in common.
class OneOrMixed {
 public:
  void Add(absl::string_view name) { names_.insert(std::string(name)); }
  std::string name() const {
    if (names_.empty()) return "";
    return names_.size() == 1 ? *names_.begin() : "mixed";
  }

 private:
  std::set<std::string> names_;
};

absl::Status DescribePot(const ExponentCheckpoint& checkpoint,
                         const LoadOptions& options,
                         VersionDescription* description) {
  ModelVersionInfo& info = description->info;
  OneOrMixed format, granularity, embedding_format, embedding_granularity;
  int64_t bytes = 0;
  for (const TensorSpec& tensor : Gpt2Tensors(info.config)) {
    if (!tensor.quantized()) {
      if (!checkpoint.HasFloats(tensor.name)) {
        return absl::DataLossError(
            absl::StrCat("tensor ", tensor.name, " is missing"));
      }
      bytes += tensor.num_elements() * static_cast<int64_t>(sizeof(float));
      continue;
    }
    POT_ASSIGN_OR_RETURN(
        const PotMatrix matrix,
        checkpoint.Matrix(tensor.name, tensor.rows(), tensor.cols()));
    bytes += matrix.stored_bytes();
    const bool is_layer = tensor.kind == TensorKind::kConv1d;
    (is_layer ? format : embedding_format).Add(matrix.format().name);
    (is_layer ? granularity : embedding_granularity)
        .Add(matrix.granularity().ToString());
  }
  info.format = format.name();
  info.granularity = granularity.name();
  info.embedding_format = embedding_format.name();
  info.embedding_granularity = embedding_granularity.name();
  info.method = checkpoint.provenance().quantizer;
  info.base_digest = checkpoint.provenance().base_sha256;
  info.activations = options.activations;
  description->min_resident_bytes = bytes;
  return absl::OkStatus();
}

absl::Status DescribeWeights(const std::string& directory,
                             const LoadOptions& options,
                             VersionDescription* description) {
  ModelVersionInfo& info = description->info;
  POT_ASSIGN_OR_RETURN(info.config, ReadGpt2Config(directory));
  if (description->manifest.files.count(kExponentCheckpointFile) != 0) {
    POT_ASSIGN_OR_RETURN(
        const std::shared_ptr<const ExponentCheckpoint> checkpoint,
        ExponentCheckpoint::Open(
            absl::StrCat(directory, "/", kExponentCheckpointFile)));
    return DescribePot(*checkpoint, options, description);
  }
  // Opening a FloatModel reads the weights of a tied head, so only the names
  // are looked at; shapes are checked when it is loaded.
  POT_ASSIGN_OR_RETURN(const std::unique_ptr<const TensorSource> source,
                       TensorSource::Open(directory));
  if (source->names().empty()) {
    return absl::DataLossError(absl::StrCat(directory, " holds no tensor"));
  }
  info.format = "f32";
  description->min_resident_bytes =
      info.config.num_parameters() * static_cast<int64_t>(sizeof(float));
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckpointError(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return status;
    case absl::StatusCode::kResourceExhausted:
      return WithDetails(status, {.reason = "MEMORY_BUDGET"});
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition: {
      // Details that were attached belong to another code.
      return WithDetails(absl::DataLossError(status.message()),
                         {.reason = "CORRUPT_CHECKPOINT"});
    }
    default:
      return absl::IsDataLoss(status)
                 ? WithDetails(status, {.reason = "CORRUPT_CHECKPOINT"})
                 : status;
  }
}

absl::StatusOr<VersionDescription> DescribeVersion(const std::string& directory,
                                                   const LoadOptions& options) {
  VersionDescription description;
  absl::StatusOr<Manifest> manifest = ReadManifest(directory);
  if (!manifest.ok()) return CheckpointError(manifest.status());
  description.manifest = *std::move(manifest);
  ModelVersionInfo& info = description.info;
  info.digest = description.manifest.digest;
  info.file_bytes = DirectoryBytes(directory);
  info.create_time =
      absl::FromUnixSeconds(description.manifest.created_unix_seconds);
  const absl::Status status = DescribeWeights(directory, options, &description);
  if (!status.ok()) return CheckpointError(status);
  return description;
}

absl::Status VerifyFiles(const std::string& directory,
                         const Manifest& manifest) {
  const absl::Status verified = VerifyManifest(directory, manifest);
  if (!absl::IsDataLoss(verified)) return CheckpointError(verified);
  for (const auto& [name, entry] : manifest.files) {
    const std::string path = absl::StrCat(directory, "/", name);
    std::error_code error;
    // What a link leads to is nobody's business.
    if (!std::filesystem::is_regular_file(
            std::filesystem::symlink_status(path, error))) {
      continue;
    }
    const auto found = Sha256File(path);
    if (found.ok() && *found != entry.sha256) {
      return WithDetails(
          verified, {.reason = "CHECKSUM_MISMATCH",
                     .metadata = {{"limit", entry.sha256}, {"value", *found}}});
    }
  }
  return CheckpointError(verified);
}

}  // namespace pot
