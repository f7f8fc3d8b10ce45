#ifndef POT_TRAINER_OPTIMIZER_SCHEDULE_H_
#define POT_TRAINER_OPTIMIZER_SCHEDULE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace pot {

enum class ScheduleShape { kCosine, kLinear, kConstant };

// The learning rate over a run.
struct Schedule {
  double peak = 2e-4;
  int64_t steps = 2000;
  int64_t warmup_steps = 0;
  ScheduleShape shape = ScheduleShape::kCosine;
  double final_ratio = 0;  // of `peak`, reached after the last step

  // Of step `step`, which counts from 0: a linear rise whose last step has the
  // peak, then the shape.
  double Rate(int64_t step) const {
    if (step < warmup_steps) {
      return peak * static_cast<double>(step + 1) /
             static_cast<double>(warmup_steps);
    }
    const double progress = std::min(
        1.0,
        static_cast<double>(step - warmup_steps) /
            static_cast<double>(std::max<int64_t>(1, steps - warmup_steps)));
    double ratio = 1;  // from 1 down to 0
    if (shape == ScheduleShape::kLinear) ratio = 1 - progress;
    if (shape == ScheduleShape::kCosine) {
      ratio = 0.5 * (1 + std::cos(M_PI * progress));
    }
    return peak * (final_ratio + (1 - final_ratio) * ratio);
  }
};

}  // namespace pot

#endif  // POT_TRAINER_OPTIMIZER_SCHEDULE_H_
