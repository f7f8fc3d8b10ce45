#ifndef POT_TRAINER_WORKER_CPU_FEATURES_H_
#define POT_TRAINER_WORKER_CPU_FEATURES_H_

#include <string>
#include <vector>

namespace pot {

// Of this CPU, those that the results of oneDNN's products depend on.
std::vector<std::string> CpuFeatures();

}  // namespace pot

#endif  // POT_TRAINER_WORKER_CPU_FEATURES_H_
