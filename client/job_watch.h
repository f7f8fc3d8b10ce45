#ifndef POT_CLIENT_JOB_WATCH_H_
#define POT_CLIENT_JOB_WATCH_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "client/session.h"

namespace pot {

// Shows the events after `after_sequence` (job_view.h) until the job is final,
// then how it ended: the job's message with --output json. The session's exit
// code says it, too. Ctrl-C leaves the job alone and says how to come back.
absl::Status WatchJob(Session* session, const std::string& job_id,
                      int64_t after_sequence);

}  // namespace pot

#endif  // POT_CLIENT_JOB_WATCH_H_
