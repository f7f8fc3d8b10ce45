// What must hold so that one bad task cannot fail a step that others share.
#ifndef POT_SERVER_SERVING_TASK_CHECKS_H_
#define POT_SERVER_SERVING_TASK_CHECKS_H_

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/serving/generate_task.h"

namespace pot {

// INVALID_ARGUMENT, with details, where a request's parser overlooked a limit.
absl::Status ValidateTask(const GenerateTask& task);
absl::Status ValidateTask(const ScoreTask& task);

// DATA_LOSS (NON_FINITE_LOGITS) when one is an infinity or NaN.
absl::Status CheckFinite(absl::Span<const float> logits);

}  // namespace pot

#endif  // POT_SERVER_SERVING_TASK_CHECKS_H_
