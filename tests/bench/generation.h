// Greedy generation in process, a step at a time.
#ifndef POT_TESTS_BENCH_GENERATION_H_
#define POT_TESTS_BENCH_GENERATION_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/inference_engine.h"

namespace pot {

// `count` sequences of one model that are continued together. Token ids are
// arbitrary but the same every time.
class Generation {
 public:
  static absl::StatusOr<Generation> Start(InferenceEngine* engine,
                                          const LoadedModel* model, int count,
                                          int64_t positions);

  // Computes `tokens` prompt tokens of every sequence, at once; the likeliest
  // tokens are next.
  absl::Status Prefill(int64_t tokens);
  // One new token of every sequence.
  absl::Status Step();
  // Seconds of each of `steps` steps.
  absl::StatusOr<std::vector<double>> TimeSteps(int64_t steps);
  // Forgets positions from `length` on.
  void Truncate(int64_t length);

 private:
  Generation(InferenceEngine* engine, const LoadedModel* model)
      : engine_(engine), model_(model) {}
  absl::Status Run(const std::vector<ForwardSpan>& spans);

  InferenceEngine* engine_;
  const LoadedModel* model_;
  std::vector<std::unique_ptr<KvCache>> caches_;
  std::vector<int32_t> next_;
};

}  // namespace pot

#endif  // POT_TESTS_BENCH_GENERATION_H_
