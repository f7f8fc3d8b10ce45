#include "server/rpc/submit_qat.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "server/rpc/request_parser.h"
#include "server/serving/field_errors.h"
#include "server/training/qat_job_validation.h"

namespace pot {
namespace {

constexpr size_t kMaxKeyBytes = 128;

absl::Status CheckKey(const std::string& key) {
  if (key.size() > kMaxKeyBytes) {
    return FieldError("INVALID_FIELD", "idempotency_key",
                      absl::StrCat("must have at most ", kMaxKeyBytes,
                                   " characters; it has ", key.size()),
                      absl::StrCat(kMaxKeyBytes), absl::StrCat(key.size()));
  }
  if (std::all_of(key.begin(), key.end(),
                  [](char c) { return c >= ' ' && c <= '~'; })) {
    return absl::OkStatus();
  }
  return FieldError(
      "INVALID_FIELD", "idempotency_key",
      absl::StrCat("must be printable ASCII; it is ", Quoted(key)), "",
      Quoted(key));
}

SubmittedQatJob DryRun(const ValidatedQatJob& validated,
                       const std::string& submitter) {
  SubmittedQatJob submitted;
  submitted.job.set_state(v1::QAT_JOB_STATE_QUEUED);
  *submitted.job.mutable_spec() = validated.spec;
  submitted.job.set_submitter(submitter);
  submitted.estimate = validated.estimate;
  return submitted;
}

v1::SubmitQatResponse ResponseOf(SubmittedQatJob submitted) {
  v1::SubmitQatResponse response;
  *response.mutable_job() = std::move(submitted.job);
  *response.mutable_estimate() = std::move(submitted.estimate);
  response.set_existing(submitted.existing);
  return response;
}

}  // namespace

absl::StatusOr<ParsedSubmission> ParseSubmission(
    const v1::SubmitQatRequest& request) {
  ParsedSubmission submission;
  submission.request = request;
  const v1::QatJobSpec& spec = request.spec();
  POT_RETURN_IF_ERROR(CheckKey(request.idempotency_key()));
  if (!request.has_spec()) {
    return FieldError("MISSING_FIELD", "spec", "is missing", "", "");
  }
  if (!spec.has_base()) {
    return FieldError("MISSING_FIELD", "spec.base",
                      "is missing: the model to train", "", "");
  }
  POT_ASSIGN_OR_RETURN(submission.base,
                       ParseModelRef(spec.base(), "spec.base"));
  if (spec.distillation().has_teacher()) {
    POT_ASSIGN_OR_RETURN(submission.teacher,
                         ParseModelRef(spec.distillation().teacher(),
                                       "spec.distillation.teacher"));
  }
  const std::string bytes = spec.SerializeAsString();
  submission.fingerprint = Sha256Hex(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()));
  return submission;
}

absl::StatusOr<v1::SubmitQatResponse> SubmitQatJob(
    const ParsedSubmission& submission, const std::string& submitter,
    ModelRepository* repository, DatasetStore* datasets, QatJobStore* jobs) {
  const v1::SubmitQatRequest& request = submission.request;
  // First, as the base's alias may have moved and the data may be gone since.
  POT_ASSIGN_OR_RETURN(std::optional<SubmittedQatJob> found,
                       jobs->FindSubmitted(submitter, request.idempotency_key(),
                                           submission.fingerprint));
  if (found.has_value()) return ResponseOf(*std::move(found));
  POT_ASSIGN_OR_RETURN(
      const ValidatedQatJob validated,
      ValidateQatJobSpec(request.spec(), submission.base, submission.teacher,
                         repository, datasets, jobs));
  if (request.dry_run()) return ResponseOf(DryRun(validated, submitter));
  NewQatJob job;
  job.spec = validated.spec;
  job.submitter = submitter;
  job.idempotency_key = request.idempotency_key();
  job.fingerprint = submission.fingerprint;
  job.estimate = validated.estimate;
  job.num_parameters = validated.num_parameters;
  POT_ASSIGN_OR_RETURN(SubmittedQatJob submitted, jobs->Submit(job));
  return ResponseOf(std::move(submitted));
}

}  // namespace pot
