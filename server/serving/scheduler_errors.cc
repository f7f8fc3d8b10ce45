#include "server/serving/scheduler_errors.h"

#include "absl/strings/str_cat.h"
#include "server/serving/error_details.h"

namespace pot {

absl::Status ExhaustedError(const std::string& reason,
                            absl::string_view message, int64_t limit,
                            int64_t value,
                            std::optional<absl::Duration> retry_after) {
  return WithDetails(
      absl::ResourceExhaustedError(absl::StrCat(
          message, "; the limit is ", limit, ", the value would be ", value)),
      {.reason = reason,
       .metadata = {{"limit", absl::StrCat(limit)},
                    {"value", absl::StrCat(value)}},
       .retry_after = retry_after});
}

absl::Status TooManySequencesError(int64_t limit, int64_t value) {
  return WithDetails(
      absl::InvalidArgumentError(absl::StrCat(
          "the call generates ", value, " sequences; the server runs at most ",
          limit, " at the same time")),
      {.reason = "INVALID_FIELD",
       .metadata = {{"limit", absl::StrCat(limit)},
                    {"value", absl::StrCat(value)}},
       .field = "sampling.best_of"});
}

absl::Status InfeasibleError(absl::Duration predicted, absl::Duration queue,
                             absl::Duration left) {
  return WithDetails(
      absl::DeadlineExceededError(
          absl::StrCat("the call cannot end before its deadline: it takes ",
                       absl::FormatDuration(predicted), " at least, of which ",
                       absl::FormatDuration(queue),
                       " until its turn comes; the deadline "
                       "leaves ",
                       absl::FormatDuration(left))),
      {.reason = "DEADLINE_INFEASIBLE",
       .metadata = {
           {"value",
            absl::StrCat(absl::ToDoubleSeconds(predicted))},
           {"limit", absl::StrCat(absl::ToDoubleSeconds(left))}}});
}

absl::Status DrainingError(absl::Duration retry_after) {
  return WithDetails(
      absl::UnavailableError("the server is draining and takes no new calls"),
      {.reason = "DRAINING", .retry_after = retry_after});
}

absl::Status AdmissionError(const absl::Status& status,
                            absl::Duration retry_after) {
  if (!absl::IsResourceExhausted(status)) {
    return WithDetails(absl::InternalError(status.message()),
                       {.reason = "INTERNAL"});
  }
  return WithDetails(status,
                     {.reason = "KV_MEMORY", .retry_after = retry_after});
}

}  // namespace pot
