// What happens to a job, as lines.
#ifndef POT_CLIENT_JOB_EVENT_H_
#define POT_CLIENT_JOB_EVENT_H_

#include <string>

#include "pot/v1/common.pb.h"
#include "pot/v1/qat_job.pb.h"

namespace pot {

// "12:00:31 step 200: perplexity 4.6282 (1.5323 ± 0.0031 nats), 2.2110
// bits/byte, best so far". Times are UTC. `best` adds the end to an evaluation.
std::string FormatJobEvent(const v1::JobEvent& event, bool best);

// "perplexity 4.6282 (1.5323 ± 0.0031 nats), 2.2110 bits/byte, KL 0.01250,
// top-1 93.75 %"; nats are per token.
std::string FormatEvaluation(const v1::CheckpointEvaluation& evaluation);

// "1.0213x", what the checkpoint's perplexity is over the base's; empty when
// the base has none.
std::string FormatPerplexityRatio(const v1::GateReport& gate);

// "name@3".
std::string FormatIdentity(const v1::ModelIdentity& model);

// "12,345 tokens/s"; empty while it is unknown.
std::string FormatSpeed(const v1::JobProgress& progress);

// "step 840 of 2,000 (42 %)".
std::string FormatSteps(const v1::JobProgress& progress);

}  // namespace pot

#endif  // POT_CLIENT_JOB_EVENT_H_
