// What a job will take.
#ifndef POT_SERVER_TRAINING_QAT_JOB_ESTIMATE_H_
#define POT_SERVER_TRAINING_QAT_JOB_ESTIMATE_H_

#include <cstdint>

#include "absl/types/span.h"
#include "engine/gpt2/gpt2_config.h"
#include "pot/v1/training.pb.h"
#include "server/training/qat_job_store.h"

namespace pot {

// Peak of the worker, in bytes, for P parameters, L layers of width C and inner
// width F, H heads, V tokens, B sequences of T tokens in one forward pass:
//   P * 20      weights, gradient, both moments of AdamW, fake-quantized copy
//   P * 4       with distillation: the teacher, counted like the base
//   4 B T L (10 C + 2 F + 2 H T)
//               kept for the backward pass, a layer: both LayerNorms' results
//               (2 C), queries, keys and values (3 C), attention's result, its
//               product and the MLP's (3 C), both residual sums (2 C), the MLP
//               before and after GELU (2 F), attention before and after dropout
//               (2 H T)
//   4 B T V n   logits and their gradient, n = 2; the teacher's with them, 3
//   4 bytes     for each token of training and validation
// Capped at the largest int64. `spec` is filled.
int64_t EstimateQatMemory(const v1::QatJobSpec& spec, const Gpt2Config& base,
                          int64_t text_tokens);

// All of the estimate. The duration supposes that tokens/s times parameters is
// the same for every model and takes the median over `samples`; unset without
// any.
v1::JobEstimate EstimateQatJob(const v1::QatJobSpec& spec,
                               const Gpt2Config& base, int64_t training_tokens,
                               int64_t validation_tokens,
                               absl::Span<const ThroughputSample> samples);

}  // namespace pot

#endif  // POT_SERVER_TRAINING_QAT_JOB_ESTIMATE_H_
