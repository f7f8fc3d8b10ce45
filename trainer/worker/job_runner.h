#ifndef POT_TRAINER_WORKER_JOB_RUNNER_H_
#define POT_TRAINER_WORKER_JOB_RUNNER_H_

#include "trainer/worker/job_inputs.h"

namespace pot {

enum class JobEnd {
  kTrained,
  kCancelled,
  kReleased,    // paused: it can go on anywhere
  kFailed,      // it would everywhere
  kFailedHere,  // another worker might succeed
  kLost,        // the lease is another worker's, or the job is gone
  kUnreported,  // the server could not be told; the lease ends by itself
};

// Does the leased job to one of its ends and tells the server. What was
// computed before, here or elsewhere, is gone on from: the result is that of a
// run that nothing interrupted, bit for bit, on the same kind of CPU with the
// same number of threads.
JobEnd RunJob(const JobContext& context, const v1::Lease& lease);

}  // namespace pot

#endif  // POT_TRAINER_WORKER_JOB_RUNNER_H_
