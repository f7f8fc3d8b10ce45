// One engine step of a round, and what follows from it.
#ifndef POT_SERVER_SERVING_STEP_RUNNER_H_
#define POT_SERVER_SERVING_STEP_RUNNER_H_

#include <functional>

#include "absl/time/time.h"
#include "engine/inference_engine.h"
#include "server/serving/round_plan.h"

namespace pot {

// Steps `step.items` together, computes their tasks' results on the engine's
// threads and delivers them on this one. Ends tasks that are complete, that
// were cancelled or expired before the step, and those, and only those, whose
// part fails: when a step fails as a whole, each part is tried alone. False
// when none of the items' tasks was alive.
bool RunModelStep(InferenceEngine* engine, const RoundPlan::ModelStep& step,
                  const std::function<absl::Time()>& now);

}  // namespace pot

#endif  // POT_SERVER_SERVING_STEP_RUNNER_H_
