#include "server/training/qat_job_estimate.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace pot {
namespace {

// Fits int64 in doubles: 2^53 is 8 PiB, exact enough for an estimate.
int64_t Capped(double value) {
  constexpr double kLimit = 9.2e18;
  return value < kLimit ? static_cast<int64_t>(value)
                        : std::numeric_limits<int64_t>::max();
}

}  // namespace

int64_t EstimateQatMemory(const v1::QatJobSpec& spec, const Gpt2Config& base,
                          int64_t text_tokens) {
  const double p = static_cast<double>(base.num_parameters());
  const double c = static_cast<double>(base.n_embd);
  const double f = static_cast<double>(base.n_inner);
  const double h = static_cast<double>(base.n_head);
  const double t = spec.batch().context();
  const double bt = static_cast<double>(spec.batch().sequences()) * t;
  const bool teacher = spec.has_distillation();
  const double layer = 10 * c + 2 * f + 2 * h * t;
  return Capped(p * (teacher ? 24 : 20) +
                4 * bt * static_cast<double>(base.n_layer) * layer +
                4 * bt * static_cast<double>(base.vocab_size) *
                    (teacher ? 3 : 2) +
                4 * static_cast<double>(text_tokens));
}

v1::JobEstimate EstimateQatJob(const v1::QatJobSpec& spec,
                               const Gpt2Config& base, int64_t training_tokens,
                               int64_t validation_tokens,
                               absl::Span<const ThroughputSample> samples) {
  v1::JobEstimate estimate;
  const int64_t steps = spec.schedule().steps();
  // At most 2^12 * 2^12 * 2^20.
  const int64_t tokens_per_step = int64_t{spec.batch().sequences()} *
                                  spec.batch().accumulation() *
                                  spec.batch().context();
  const double total =
      static_cast<double>(steps) * static_cast<double>(tokens_per_step);
  estimate.set_steps(steps);
  estimate.set_tokens_per_step(tokens_per_step);
  estimate.set_epochs(
      total / static_cast<double>(std::max<int64_t>(1, training_tokens)));
  estimate.set_memory_bytes(
      EstimateQatMemory(spec, base, training_tokens + validation_tokens));
  std::vector<double> speeds;  // parameters x tokens/s
  for (const ThroughputSample& sample : samples) {
    speeds.push_back(static_cast<double>(sample.num_parameters) *
                     sample.tokens_per_second);
  }
  if (speeds.empty()) return estimate;
  const auto median =
      speeds.begin() + static_cast<std::ptrdiff_t>(speeds.size() / 2);
  std::nth_element(speeds.begin(), median, speeds.end());
  estimate.set_duration_seconds(
      total * static_cast<double>(base.num_parameters()) / *median);
  return estimate;
}

}  // namespace pot
