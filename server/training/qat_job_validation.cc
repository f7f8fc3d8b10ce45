#include "server/training/qat_job_validation.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/gpt2/model_files.h"
#include "server/serving/error_details.h"
#include "server/serving/field_errors.h"
#include "server/serving/version_errors.h"
#include "server/training/qat_job_estimate.h"
#include "server/training/qat_job_spec.h"
#include "server/training/qat_job_texts.h"

namespace pot {
namespace {

constexpr char kFloatFormat[] = "f32";
// Earlier runs that the prediction of speed looks at.
constexpr int kThroughputSamples = 32;

absl::StatusOr<ModelVersionInfo> FloatVersion(const ModelSelector& selector,
                                              const std::string& field,
                                              ModelRepository* repository) {
  const absl::StatusOr<ModelVersionInfo> info = repository->Get(selector);
  if (!info.ok()) return WithDetails(info.status(), {.field = field});
  if (info->state == ModelVersionState::kFailed) return NotServing(*info);
  if (info->format == kFloatFormat) return *info;
  return WithDetails(
      absl::FailedPreconditionError(
          absl::StrCat(field, " is version ", info->version, " of ", info->name,
                       ", whose format is ", info->format,
                       "; training needs the floating-point version (f32)")),
      {.reason = "BASE_NOT_FLOAT",
       .metadata = {{"limit", kFloatFormat}, {"value", info->format}},
       .field = field});
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> TokenizerOf(
    const ModelVersionInfo& info, const ModelRepository& repository) {
  return LoadTokenizer(
      absl::StrCat(repository.root(), "/", info.name, "/", info.version),
      info.config);
}

absl::Status CheckTeacher(const v1::QatJobSpec& spec,
                          const ModelVersionInfo& teacher,
                          const ModelVersionInfo& base,
                          const Tokenizer& base_tokenizer,
                          const ModelRepository& repository) {
  if (teacher.digest == base.digest) return absl::OkStatus();
  const std::string field = "spec.distillation.teacher";
  POT_ASSIGN_OR_RETURN(const std::unique_ptr<const Tokenizer> tokenizer,
                       TokenizerOf(teacher, repository));
  bool same = tokenizer->vocab_size() == base_tokenizer.vocab_size() &&
              teacher.config.vocab_size == base.config.vocab_size;
  for (int32_t id = 0; same && id < tokenizer->vocab_size(); ++id) {
    same = tokenizer->TokenBytes(id) == base_tokenizer.TokenBytes(id);
  }
  if (!same) {
    return FieldError("TOKENIZER_MISMATCH", field,
                      absl::StrCat("has another vocabulary than the base: ",
                                   tokenizer->vocab_size(), " and ",
                                   base_tokenizer.vocab_size(), " tokens"),
                      absl::StrCat(base_tokenizer.vocab_size()),
                      absl::StrCat(tokenizer->vocab_size()));
  }
  const int64_t positions = teacher.config.n_positions;
  if (spec.batch().context() <= positions) return absl::OkStatus();
  return FieldError("INVALID_FIELD", field,
                    absl::StrCat("has a context of ", positions,
                                 " tokens, less than spec.batch.context, ",
                                 spec.batch().context()),
                    absl::StrCat(positions),
                    absl::StrCat(spec.batch().context()));
}

absl::Status CheckDatasets(const v1::TrainingData& data,
                           DatasetStore* datasets) {
  std::vector<std::pair<std::string, std::string>> named;  // field, digest
  for (int i = 0; i < data.datasets().sha256_size(); ++i) {
    named.emplace_back(absl::StrCat("spec.data.datasets.sha256[", i, "]"),
                       data.datasets().sha256(i));
  }
  if (!data.validation_sha256().empty()) {
    named.emplace_back("spec.data.validation_sha256", data.validation_sha256());
  }
  for (const auto& [field, sha256] : named) {
    POT_ASSIGN_OR_RETURN(const auto found, datasets->Find(sha256));
    if (found.has_value()) continue;
    return WithDetails(
        absl::NotFoundError(absl::StrCat(field, " is ", sha256,
                                         ", but there is no such dataset; "
                                         "UploadDataset brings it")),
        {.reason = "DATASET_NOT_FOUND", .field = field});
  }
  return absl::OkStatus();
}

void Pin(const ModelVersionInfo& info, v1::ModelRef* ref) {
  ref->set_name(info.name);
  ref->set_digest(info.digest);
}

}  // namespace

absl::StatusOr<ValidatedQatJob> ValidateQatJobSpec(
    const v1::QatJobSpec& spec, const ModelSelector& base,
    const std::optional<ModelSelector>& teacher, ModelRepository* repository,
    DatasetStore* datasets, QatJobStore* jobs) {
  ValidatedQatJob job;
  job.spec = spec;
  POT_ASSIGN_OR_RETURN(const ModelVersionInfo info,
                       FloatVersion(base, "spec.base", repository));
  POT_RETURN_IF_ERROR(FillQatJobSpec(info.config, info.name, &job.spec));
  Pin(info, job.spec.mutable_base());
  POT_ASSIGN_OR_RETURN(const std::unique_ptr<const Tokenizer> tokenizer,
                       TokenizerOf(info, *repository));
  if (job.spec.has_distillation()) {
    ModelVersionInfo teaching = info;
    if (teacher.has_value()) {
      POT_ASSIGN_OR_RETURN(
          teaching,
          FloatVersion(*teacher, "spec.distillation.teacher", repository));
      POT_RETURN_IF_ERROR(
          CheckTeacher(job.spec, teaching, info, *tokenizer, *repository));
    }
    Pin(teaching, job.spec.mutable_distillation()->mutable_teacher());
  }
  POT_RETURN_IF_ERROR(CheckDatasets(job.spec.data(), datasets));
  POT_ASSIGN_OR_RETURN(
      const JobTokens tokens,
      CheckJobTexts(job.spec, *tokenizer, [&](absl::string_view sha256) {
        return datasets->Path(sha256);
      }));
  POT_ASSIGN_OR_RETURN(const std::vector<ThroughputSample> samples,
                       jobs->Throughput(kThroughputSamples));
  job.num_parameters = info.config.num_parameters();
  job.estimate = EstimateQatJob(job.spec, info.config, tokens.training,
                                tokens.validation, samples);
  return job;
}

}  // namespace pot
