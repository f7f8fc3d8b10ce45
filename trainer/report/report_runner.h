// Measures the cases of a report, several at a time, and keeps every row in a
// file of its own, so that a report that was stopped goes on where it was.
#ifndef POT_TRAINER_REPORT_REPORT_RUNNER_H_
#define POT_TRAINER_REPORT_REPORT_RUNNER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "trainer/report/measure_case.h"
#include "trainer/report/report_case.h"
#include "trainer/report/report_row.h"

namespace pot {

struct ReportRunOptions {
  std::string directory;  // rows/KEY.json and models/KEY are in it
  // All that makes rows comparable: model, text, protocol. Rows of another
  // identity are refused.
  nlohmann::json identity;
  // The same and the calibration, for the rows that look at it.
  nlohmann::json calibrated_identity;
  int threads = 1;
  int jobs = 1;  // cases at a time, each on threads / jobs
  bool keep_models = false;
  bool measure_speed = true;  // one case at a time, nothing beside it
};

struct ReportRun {
  std::vector<ReportRow> rows;  // in the order of the cases
  std::vector<std::pair<ReportCase, absl::Status>> failures;
  int64_t reused = 0;  // rows that were there
};

// `progress(done, case)`: rows done, those half done counted as such; called
// from one thread at a time. INVALID_ARGUMENT when the directory has rows of
// another identity, naming what differs; a case that fails is in the result.
absl::StatusOr<ReportRun> RunReport(
    const ReportInputs& inputs, const std::vector<ReportCase>& cases,
    const ReportRunOptions& options,
    const std::function<void(double, const ReportCase&)>& progress);

}  // namespace pot

#endif  // POT_TRAINER_REPORT_REPORT_RUNNER_H_
