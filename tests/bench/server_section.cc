#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/inference_engine.h"
#include "pot/v1/model.pb.h"
#include "tests/bench/bench_client.h"
#include "tests/bench/generation.h"
#include "tests/bench/sections.h"
#include "tests/bench/server_process.h"
#include "tests/bench/timing.h"

namespace pot {
namespace {

constexpr int64_t kPromptTokens = 1000;

absl::StatusOr<std::unique_ptr<ServerProcess>> StartServer(
    const BenchOptions& options, int threads) {
  return ServerProcess::Start(
      options.server,
      {"--repository=" + BenchRepository(options, "gpt2"),
       absl::StrCat("--threads=", threads), "--log-level=warning"},
      options.work + "/port", options.work + "/server.log");
}

double Sum(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

absl::Status MeasureRatio(const BenchOptions& options, int threads,
                          BenchClient* client, Report* report) {
  constexpr int64_t kTokens = 128;
  POT_ASSIGN_OR_RETURN(const KernelTable* kernels,
                       KernelTableFromEnvironment());
  POT_ASSIGN_OR_RETURN(const auto model,
                       LoadBenchModel(options, "gpt2", kernels));
  InferenceEngine engine(threads, int64_t{1} << 30);
  std::vector<double> in_process, served;
  for (int i = 0; i <= options.repetitions; ++i) {
    POT_ASSIGN_OR_RETURN(Generation generation,
                         Generation::Start(&engine, model.get(), 1, 256));
    POT_ASSIGN_OR_RETURN(const auto ours, generation.TimeSteps(kTokens));
    POT_ASSIGN_OR_RETURN(const auto theirs, client->Stream(1, kTokens));
    if (i == 0) continue;
    in_process.push_back(Sum(ours));
    served.push_back(Sum(theirs));
  }
  report->Add({"server.ratio_vs_in_process",
               threads,
               Median(in_process) / Median(served),
               "",
               threads == 1 ? 0.95 : 0.90,
               {},
               absl::StrFormat("%.1f tokens/s served, %.1f in process",
                               kTokens / Median(served),
                               kTokens / Median(in_process))});
  return absl::OkStatus();
}

// Latency between the tokens of two streams while prompts arrive, one after
// the other with as long a pause as each took.
absl::Status MeasureInterference(int threads, BenchClient* client,
                                 Report* report) {
  constexpr int64_t kTokens = 600;
  std::atomic<bool> done{false};
  absl::Status prompt_status;
  int prompts = 0;
  std::thread arrivals([&] {
    while (!done.load() && prompt_status.ok()) {
      const Stopwatch stopwatch;
      prompt_status = client->Stream(kPromptTokens, 1).status();
      ++prompts;
      const double pause = stopwatch.Seconds();
      const Stopwatch pausing;
      while (!done.load() && pausing.Seconds() < pause) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    }
  });
  absl::StatusOr<std::vector<double>> other;
  std::thread second([&] { other = client->Stream(8, kTokens); });
  const absl::StatusOr<std::vector<double>> first = client->Stream(8, kTokens);
  second.join();
  done.store(true);
  arrivals.join();
  POT_RETURN_IF_ERROR(prompt_status);
  POT_RETURN_IF_ERROR(first.status());
  POT_RETURN_IF_ERROR(other.status());
  std::vector<double> latencies(first->begin() + 1, first->end());
  latencies.insert(latencies.end(), other->begin() + 1, other->end());
  const double median = Median(latencies);
  const double p99 = Quantile(latencies, 0.99);
  report->Add(
      {"server.itl_p99_over_median",
       threads,
       p99 / median,
       "",
       {},
       3,
       absl::StrFormat("p99 %.1f ms, median %.1f ms; two streams, %d "
                       "prompts of %d tokens",
                       p99 * 1e3, median * 1e3, prompts, kPromptTokens)});
  return absl::OkStatus();
}

// Four sequences that fill the context, at the same time.
absl::Status MeasureMemory(int threads, const ServerProcess& server,
                           BenchClient* client, const v1::ModelVersion& version,
                           Report* report) {
  constexpr int kSequences = 4;
  std::vector<absl::Status> statuses(kSequences);
  std::vector<std::thread> streams;
  for (int i = 0; i < kSequences; ++i) {
    streams.emplace_back(
        [&, i] { statuses[i] = client->Stream(kPromptTokens, 24).status(); });
  }
  for (std::thread& stream : streams) stream.join();
  for (const absl::Status& status : statuses) POT_RETURN_IF_ERROR(status);
  POT_ASSIGN_OR_RETURN(const int64_t resident, server.ResidentBytes());
  // 12 layers of keys and values of 768 elements, fp16.
  constexpr int64_t kKvBytes = kSequences * 1024 * 12 * 2 * 768 * 2;
  const int64_t bound = version.resident_bytes() + kKvBytes + 60'000'000;
  report->Add(
      {"memory.resident_mb",
       threads,
       static_cast<double>(resident) / 1e6,
       "MB",
       {},
       static_cast<double>(bound) / 1e6,
       absl::StrFormat("weights %.1f MB, KV of four sequences %.1f MB",
                       static_cast<double>(version.resident_bytes()) / 1e6,
                       kKvBytes / 1e6)});
  return absl::OkStatus();
}

}  // namespace

absl::Status MeasureServer(const BenchOptions& options, int threads,
                           Report* report) {
  POT_RETURN_IF_ERROR(MakeBenchModel(options, "gpt2"));
  std::vector<double> load_seconds;
  std::unique_ptr<ServerProcess> server;
  v1::ModelVersion version;
  for (int i = 0; i < 3; ++i) {
    server.reset();
    POT_ASSIGN_OR_RETURN(server, StartServer(options, threads));
    POT_ASSIGN_OR_RETURN(version,
                         BenchClient(server->address()).WaitForModel("gpt2"));
    load_seconds.push_back(version.load_seconds());
  }
  report->Add({"load.seconds",
               threads,
               Median(load_seconds),
               "s",
               {},
               0.5,
               "checksums, packing and warming, files in the page cache"});
  BenchClient client(server->address());
  // First: prompts that are kept for later ones would count.
  POT_RETURN_IF_ERROR(
      MeasureMemory(threads, *server, &client, version, report));
  POT_RETURN_IF_ERROR(MeasureRatio(options, threads, &client, report));
  return MeasureInterference(threads, &client, report);
}

}  // namespace pot
