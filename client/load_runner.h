#ifndef POT_CLIENT_LOAD_RUNNER_H_
#define POT_CLIENT_LOAD_RUNNER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/connection.h"
#include "client/load_plan.h"
#include "client/load_prompts.h"
#include "client/load_statistics.h"

namespace pot {

// Sends requests as GenerateStream and takes times. One thread sends; gRPC's
// callbacks receive, so that thousands of streams need no thread each.
class LoadRunner {
 public:
  struct Progress {
    double seconds = 0;
    int64_t finished = 0;
    int64_t failed = 0;
    int64_t in_flight = 0;
  };

  // Borrows all of them.
  LoadRunner(const Connection& connection, const LoadPlan& plan,
             const LoadPrompts& prompts);
  ~LoadRunner();

  // Opens the plan's connections. UNAVAILABLE when one of them cannot be.
  absl::Status Connect();

  // Sends for the plan's warm-up and duration, then waits for what is under
  // way. The records of all requests, in the order in which they ended.
  // `report` hears of it several times a second. CANCELLED after Ctrl-C; the
  // last error when no request was answered.
  //
  // In a closed loop, one whose request failed pauses for kPauseAfterFailure,
  // so that a server that refuses is not stormed.
  absl::StatusOr<std::vector<RequestRecord>> Run(
      const LoadLevel& level,
      const std::function<void(const Progress&)>& report);

  static constexpr double kPauseAfterFailure = 0.1;  // seconds

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pot

#endif  // POT_CLIENT_LOAD_RUNNER_H_
