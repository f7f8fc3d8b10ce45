#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "tests/bench/bench_client.h"
#include "tests/bench/child_process.h"
#include "tests/bench/sections.h"
#include "tests/bench/server_process.h"
#include "tests/bench/timing.h"

namespace pot {
namespace {

constexpr double kSeconds = 20;
// Longer than the window of the server's throttle.
constexpr double kSettlingSeconds = 15;
// The latency that the operator asks for, over that of a quiet server.
constexpr double kTargetRatio = 1.25;

absl::Status WaitForModels(BenchClient* client) {
  POT_RETURN_IF_ERROR(client->WaitForModel("gpt2").status());
  return client->WaitForModel("gpt2-f32").status();
}

// Times between the tokens of one stream after another.
absl::StatusOr<std::vector<double>> Latencies(BenchClient* client,
                                              double seconds) {
  std::vector<double> latencies;
  const Stopwatch stopwatch;
  while (stopwatch.Seconds() < seconds) {
    POT_ASSIGN_OR_RETURN(const std::vector<double> stream,
                         client->Stream(8, 200));
    latencies.insert(latencies.end(), stream.begin() + 1, stream.end());
  }
  return latencies;
}

absl::StatusOr<std::unique_ptr<ServerProcess>> StartServer(
    const BenchOptions& options, int threads, double target_ms) {
  const std::string work = options.work + "/training";
  std::error_code error;
  std::filesystem::remove_all(work + "/jobs", error);
  return ServerProcess::Start(
      options.server,
      {"--repository=" + BenchRepository(options, "training"),
       absl::StrCat("--training-root=", work, "/jobs"),
       absl::StrCat("--threads=", threads), "--log-level=warning",
       absl::StrCat("--itl-target-ms=", target_ms)},
      work + "/port", work + "/server.log");
}

// Of more steps than anybody waits for.
v1::QatJobSpec EndlessJob() {
  v1::QatJobSpec spec;
  spec.mutable_base()->set_name("gpt2-f32");
  spec.mutable_quantization()->set_format("pot4");
  spec.mutable_learned_scales();
  spec.mutable_schedule()->set_steps(100'000);
  spec.mutable_batch()->set_context(64);
  spec.mutable_evaluation()->set_every_steps(100'000);
  spec.mutable_evaluation()->set_max_tokens(1000);
  return spec;
}

std::string SomeText() {
  std::string text;
  for (int i = 0; i < 50'000; ++i)
    absl::StrAppend(&text, i * 7919 % 50257, " ");
  return text;
}

absl::StatusOr<int64_t> StepsOf(BenchClient* client, const std::string& job,
                                ChildProcess* worker) {
  POT_ASSIGN_OR_RETURN(const v1::QatJob state, client->GetJob(job));
  if (worker->HasEnded() || state.state() > v1::QAT_JOB_STATE_RUNNING) {
    return absl::InternalError(
        absl::StrCat("the job does not run: ", state.state_message()));
  }
  return state.progress().step();
}

}  // namespace

absl::Status MeasureJobs(const BenchOptions& options, int threads,
                         Report* report) {
  POT_RETURN_IF_ERROR(MakeTrainingModels(options));
  double target_ms = 0;
  {
    POT_ASSIGN_OR_RETURN(const auto server, StartServer(options, threads, 0));
    BenchClient client(server->address());
    POT_RETURN_IF_ERROR(WaitForModels(&client));
    POT_ASSIGN_OR_RETURN(const std::vector<double> quiet,
                         Latencies(&client, kSeconds / 2));
    target_ms = std::ceil(kTargetRatio * Quantile(quiet, 0.99) * 1e3);
  }
  POT_ASSIGN_OR_RETURN(const auto server,
                       StartServer(options, threads, target_ms));
  BenchClient client(server->address());
  POT_RETURN_IF_ERROR(WaitForModels(&client));
  POT_ASSIGN_OR_RETURN(const std::vector<double> quiet,
                       Latencies(&client, kSeconds));

  POT_ASSIGN_OR_RETURN(const std::string job,
                       client.SubmitQat(EndlessJob(), SomeText()));
  const std::string work = options.work + "/training";
  POT_ASSIGN_OR_RETURN(
      const auto worker,
      ChildProcess::Start({options.trainer, "worker",
                           absl::StrCat("--server=", server->address()),
                           absl::StrCat("--work-dir=", work, "/worker"),
                           absl::StrCat("--threads=", threads)},
                          work + "/worker.log"));
  // Nobody is served until it trains; then its pace without company.
  int64_t steps = 0;
  while (steps < 2) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    POT_ASSIGN_OR_RETURN(steps, StepsOf(&client, job, worker.get()));
  }
  const Stopwatch alone;
  const int64_t before = steps;
  while (alone.Seconds() < kSeconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  POT_ASSIGN_OR_RETURN(steps, StepsOf(&client, job, worker.get()));
  const double alone_pace =
      static_cast<double>(steps - before) / alone.Seconds();

  POT_RETURN_IF_ERROR(Latencies(&client, kSettlingSeconds).status());
  POT_ASSIGN_OR_RETURN(const int64_t begin,
                       StepsOf(&client, job, worker.get()));
  const Stopwatch beside;
  POT_ASSIGN_OR_RETURN(const std::vector<double> latencies,
                       Latencies(&client, kSeconds));
  POT_ASSIGN_OR_RETURN(const int64_t end, StepsOf(&client, job, worker.get()));
  const double pace = static_cast<double>(end - begin) / beside.Seconds();
  POT_RETURN_IF_ERROR(client.CancelJob(job));

  const double p99 = Quantile(latencies, 0.99);
  const double quiet_p99 = Quantile(quiet, 0.99);
  report->Add(
      {"jobs.itl_p99_vs_quiet",
       threads,
       p99 / quiet_p99,
       "",
       {},
       1.5,
       absl::StrFormat("p99 %.1f ms, quiet %.1f ms; median %.1f and "
                       "%.1f ms; target %.0f ms",
                       p99 * 1e3, quiet_p99 * 1e3, Median(latencies) * 1e3,
                       Median(quiet) * 1e3, target_ms)});
  report->Add({"jobs.training_pace_vs_alone",
               threads,
               pace / alone_pace,
               "",
               {},
               {},
               absl::StrFormat("%.3f steps/s beside one stream, %.3f alone",
                               pace, alone_pace)});
  return absl::OkStatus();
}

}  // namespace pot
