#ifndef POT_TRAINER_TRAINING_EVALUATE_TEXT_H_
#define POT_TRAINER_TRAINING_EVALUATE_TEXT_H_

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "engine/gpt2/evaluation.h"
#include "trainer/data/token_corpus.h"
#include "trainer/gpt2/objective.h"

namespace pot {

// Loss on the first `max_tokens` of `tokens` (all of them when it is negative)
// under the parameters that `objective` has, in the windows of
// engine/gpt2/evaluation.h: every token but the first counts once. `protocol`
// is valid. `stop`, which may be null, is asked between forward passes; true
// makes the result CANCELLED. `loss` says whether the teacher is asked.
absl::StatusOr<LossSums> EvaluateText(const TokenCorpus& tokens,
                                      EvaluationProtocol protocol,
                                      int64_t max_tokens,
                                      const std::function<bool()>& stop,
                                      Objective<float>* objective,
                                      const LossOptions& loss = {});

// Of mean_nats(), taking predictions as independent: s / sqrt(predictions).
double StandardError(const LossSums& sums);

}  // namespace pot

#endif  // POT_TRAINER_TRAINING_EVALUATE_TEXT_H_
