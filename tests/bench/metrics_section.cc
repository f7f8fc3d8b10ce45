// What recording a token for Prometheus takes of the step that makes it.
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/status_macros.h"
#include "engine/inference_engine.h"
#include "server/observability/serving_metrics.h"
#include "server/serving/latency_histogram.h"
#include "tests/bench/generation.h"
#include "tests/bench/sections.h"
#include "tests/bench/timing.h"

namespace pot {
namespace {

absl::StatusOr<double> StepSeconds(const BenchOptions& options,
                                   const char* name, int threads) {
  constexpr int64_t kTokens = 48;
  POT_ASSIGN_OR_RETURN(const KernelTable* kernels,
                       KernelTableFromEnvironment());
  POT_ASSIGN_OR_RETURN(const auto model,
                       LoadBenchModel(options, name, kernels));
  InferenceEngine engine(threads, int64_t{1} << 30);
  POT_ASSIGN_OR_RETURN(Generation generation,
                       Generation::Start(&engine, model.get(), 1, 64));
  std::vector<double> seconds;
  for (int i = 0; i <= options.repetitions; ++i) {
    generation.Truncate(0);
    POT_ASSIGN_OR_RETURN(const auto steps, generation.TimeSteps(kTokens));
    if (i > 0) seconds.insert(seconds.end(), steps.begin(), steps.end());
  }
  return Median(std::move(seconds));
}

// As the scheduler does for a step of one sequence, reading the clock included,
// while another thread reads all series without a pause.
double RecordingSeconds(int repetitions) {
  constexpr int64_t kTokens = 20'000;
  ServingMetrics metrics;
  LatencyHistogram latencies;
  const std::shared_ptr<ModelMetrics> of_model = metrics.Of("gpt2", 1);
  std::atomic<bool> done{false};
  std::thread reader([&] {
    while (!done.load()) {
      MetricFamilies families;
      metrics.Collect(&families);
    }
  });
  const double seconds = MedianSeconds(repetitions, [&] {
    absl::Time last = absl::Now();
    for (int64_t i = 0; i < kTokens; ++i) {
      const absl::Time now = absl::Now();
      of_model->generated_tokens.fetch_add(1, std::memory_order_relaxed);
      of_model->inter_token_latency.Observe(now - last);
      latencies.Record(now - last);
      metrics.RecordStep(1, 0, absl::Now() - now);
      last = now;
    }
  });
  done.store(true);
  reader.join();
  return seconds / kTokens;
}

}  // namespace

absl::Status MeasureMetrics(const BenchOptions& options, int threads,
                            Report* report) {
  POT_ASSIGN_OR_RETURN(const double large,
                       StepSeconds(options, "gpt2", threads));
  POT_ASSIGN_OR_RETURN(const double small,
                       StepSeconds(options, "nano", threads));
  const double recording = RecordingSeconds(options.repetitions);
  report->Add({"metrics.part_of_step",
               threads,
               recording / large,
               "",
               {},
               0.01,
               absl::StrFormat("%.2f us per token; a step takes %.2f ms",
                               recording * 1e6, large * 1e3)});
  report->Add({"metrics.part_of_small_step",
               threads,
               recording / small,
               "",
               {},
               {},
               absl::StrFormat("shakespeare-char, whose step takes %.1f us",
                               small * 1e6)});
  return absl::OkStatus();
}

}  // namespace pot
