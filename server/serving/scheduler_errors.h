// Why the scheduler does not take a task, or does not keep it.
#ifndef POT_SERVER_SERVING_SCHEDULER_ERRORS_H_
#define POT_SERVER_SERVING_SCHEDULER_ERRORS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace pot {

// RESOURCE_EXHAUSTED with `reason`; both numbers are in message and details.
absl::Status ExhaustedError(const std::string& reason,
                            absl::string_view message, int64_t limit,
                            int64_t value,
                            std::optional<absl::Duration> retry_after);

// INVALID_ARGUMENT: best_of is over the limit of running sequences.
absl::Status TooManySequencesError(int64_t limit, int64_t value);

// DEADLINE_EXCEEDED (DEADLINE_INFEASIBLE): the call takes `predicted` at least,
// of which `queue` in the queue, and `left` is left of its deadline.
absl::Status InfeasibleError(absl::Duration predicted, absl::Duration queue,
                             absl::Duration left);

// UNAVAILABLE (DRAINING).
absl::Status DrainingError(absl::Duration retry_after);

// Of a task that alone could not be admitted, after the engine's `status`.
absl::Status AdmissionError(const absl::Status& status,
                            absl::Duration retry_after);

}  // namespace pot

#endif  // POT_SERVER_SERVING_SCHEDULER_ERRORS_H_
