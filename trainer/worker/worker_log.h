#ifndef POT_TRAINER_WORKER_WORKER_LOG_H_
#define POT_TRAINER_WORKER_WORKER_LOG_H_

#include "absl/strings/string_view.h"

namespace pot {

// One line on standard error with the time, whatever `text` holds. Texts that
// are trained on or generated never belong into it. Thread-safe.
void LogWorker(absl::string_view text);

}  // namespace pot

#endif  // POT_TRAINER_WORKER_WORKER_LOG_H_
