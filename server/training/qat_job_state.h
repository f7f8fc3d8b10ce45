// The states of a job and the moves between them.
#ifndef POT_SERVER_TRAINING_QAT_JOB_STATE_H_
#define POT_SERVER_TRAINING_QAT_JOB_STATE_H_

#include "absl/strings/string_view.h"
#include "pot/v1/qat_job.pb.h"

namespace pot {

// The one table of moves; everything that it does not list is refused. RUNNING
// and PAUSED meet through QUEUED: a paused job waits for a worker like any
// other.
bool IsAllowedMove(v1::QatJobState from, v1::QatJobState to);

// SUCCEEDED, GATE_REJECTED, FAILED or CANCELLED: nothing follows.
bool IsFinalState(v1::QatJobState state);

// "QUEUED"; "UNSPECIFIED" for a value that proto does not know.
absl::string_view QatJobStateName(v1::QatJobState state);

}  // namespace pot

#endif  // POT_SERVER_TRAINING_QAT_JOB_STATE_H_
