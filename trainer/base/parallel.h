// Loops over independent parts on oneDNN's own team of OpenMP threads: a second
// pool would fight with that team, which spins between its products.
#ifndef POT_TRAINER_BASE_PARALLEL_H_
#define POT_TRAINER_BASE_PARALLEL_H_

#include <algorithm>
#include <cstdint>

namespace pot {

// Calls fn(begin, end) on disjoint ranges that cover [0, count), on one thread
// when count <= grain. Which thread does what must not matter to the result.
// fn must not throw.
template <typename Function>
void ParallelFor(int64_t count, int64_t grain, const Function& fn) {
  const int64_t parts = (count + grain - 1) / grain;
  if (parts <= 1) {
    if (count > 0) fn(int64_t{0}, count);
    return;
  }
#pragma omp parallel for schedule(static)
  for (int64_t part = 0; part < parts; ++part) {
    fn(part * grain, std::min(count, (part + 1) * grain));
  }
}

}  // namespace pot

#endif  // POT_TRAINER_BASE_PARALLEL_H_
