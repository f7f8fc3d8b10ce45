#ifndef POT_TRAINER_WORKER_JOB_OPTIONS_H_
#define POT_TRAINER_WORKER_JOB_OPTIONS_H_

#include <optional>

#include "absl/status/statusor.h"
#include "engine/gpt2/gpt2_config.h"
#include "trainer/data/self_text.h"
#include "trainer/training/training_loop.h"
#include "trainer/training/training_run.h"

namespace pot::v1 {
class QatJobSpec;
}

namespace pot {

// What a job's specification means to the trainer. Gate and publication are the
// server's.
struct JobOptions {
  TrainingOptions training;
  LoopOptions loop;  // without a directory
  // Of the training text, where there is no text for validation.
  double holdout_ratio = 0.1;
  // Set: train on text that the base writes.
  std::optional<SelfTextOptions> self_text;
};

// `spec` as the server fills it in; where a field is unset all the same, its
// documented default counts. INVALID_ARGUMENT naming the field's path from
// "spec." on, the limit and the given value.
absl::StatusOr<JobOptions> JobOptionsOf(const v1::QatJobSpec& spec,
                                        const Gpt2Config& base);

}  // namespace pot

#endif  // POT_TRAINER_WORKER_JOB_OPTIONS_H_
