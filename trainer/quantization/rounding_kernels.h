// The loops of WeightFakeQuantizer, over weights that lie one after the other
// in "runs" of `run` weights under one scale each; the last run may be shorter.
// Sums are taken in an order that depends on count and run alone.
#ifndef POT_TRAINER_QUANTIZATION_ROUNDING_KERNELS_H_
#define POT_TRAINER_QUANTIZATION_ROUNDING_KERNELS_H_

#include <cstdint>

#include "engine/quant/pot_format.h"
#include "trainer/quantization/rounding_table.h"

namespace pot {

// max |w|.
float MaxMagnitude(const float* w, int64_t count);

// effective[i] = s * level of w[i] / s, s = scales[i / run]; 0 where s is 0.
void RoundRuns(const RoundingTable& table, const float* w, int64_t count,
               int64_t run, const float* scales, float* effective);

// grad[i] becomes 0 where |w[i] / s| is beyond its limit, if `clip`; adds to
// sums[i / run] the products grad[i] * dq/dl of weight_fake_quantizer.h, unless
// `sums` is null. Runs of scale 0 are left alone.
void BackwardRuns(const RoundingTable& table, const float* w, int64_t count,
                  int64_t run, const float* scales, bool clip, double* sums,
                  float* grad);

// The same for held codes, whose levels are levels[code]: every gradient
// becomes 0.
void RoundHeldRuns(const float* levels, const PotCode* codes, int64_t count,
                   int64_t run, const float* scales, float* effective);
void BackwardHeldRuns(const float* levels, const PotCode* codes, int64_t count,
                      int64_t run, const float* scales, double* sums,
                      float* grad);

}  // namespace pot

#endif  // POT_TRAINER_QUANTIZATION_ROUNDING_KERNELS_H_
