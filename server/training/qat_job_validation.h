// A specification against the repository and the uploaded texts.
#ifndef POT_SERVER_TRAINING_QAT_JOB_VALIDATION_H_
#define POT_SERVER_TRAINING_QAT_JOB_VALIDATION_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "pot/v1/qat_job.pb.h"
#include "pot/v1/training.pb.h"
#include "server/serving/model_repository.h"
#include "server/training/dataset_store.h"
#include "server/training/qat_job_store.h"

namespace pot {

struct ValidatedQatJob {
  // Every default filled in, base and teacher pinned to their digests.
  v1::QatJobSpec spec;
  v1::JobEstimate estimate;
  int64_t num_parameters = 0;
};

// `base`, `teacher`: what spec.base and, when it is set,
// spec.distillation.teacher name. Reads the texts, so it may take seconds.
// Errors: of ModelRepository::Get; FAILED_PRECONDITION (BASE_NOT_FLOAT) for a
// base or teacher that is not f32, VERSION_FAILED for one that cannot be read;
// INVALID_ARGUMENT (TOKENIZER_MISMATCH) for a teacher with another vocabulary;
// NOT_FOUND (DATASET_NOT_FOUND); those of FillQatJobSpec() and CheckJobTexts().
absl::StatusOr<ValidatedQatJob> ValidateQatJobSpec(
    const v1::QatJobSpec& spec, const ModelSelector& base,
    const std::optional<ModelSelector>& teacher, ModelRepository* repository,
    DatasetStore* datasets, QatJobStore* jobs);

}  // namespace pot

#endif  // POT_SERVER_TRAINING_QAT_JOB_VALIDATION_H_
