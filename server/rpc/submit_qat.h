#ifndef POT_SERVER_RPC_SUBMIT_QAT_H_
#define POT_SERVER_RPC_SUBMIT_QAT_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "pot/v1/training.pb.h"
#include "server/serving/model_repository.h"
#include "server/training/dataset_store.h"
#include "server/training/qat_job_store.h"

namespace pot {

// A SubmitQatRequest that is well-formed.
struct ParsedSubmission {
  v1::SubmitQatRequest request;
  ModelSelector base;
  std::optional<ModelSelector> teacher;
  // Of the specification as it came.
  std::string fingerprint;
};

// INVALID_ARGUMENT for what can be seen without the repository and the data.
absl::StatusOr<ParsedSubmission> ParseSubmission(
    const v1::SubmitQatRequest& request);

// Finds, or else validates and queues, the job; see training.proto. May take
// seconds.
absl::StatusOr<v1::SubmitQatResponse> SubmitQatJob(
    const ParsedSubmission& submission, const std::string& submitter,
    ModelRepository* repository, DatasetStore* datasets, QatJobStore* jobs);

}  // namespace pot

#endif  // POT_SERVER_RPC_SUBMIT_QAT_H_
