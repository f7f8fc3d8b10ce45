// What a report compares: formats times granularities times methods.
#ifndef POT_TRAINER_REPORT_REPORT_CASE_H_
#define POT_TRAINER_REPORT_REPORT_CASE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/quantize_job.h"

namespace pot {

// One way to quantize a model. The float model itself has the format
// kFloatFormat, and nothing else.
struct ReportCase {
  // A PotFormat's; or "mixed3.5": each matrix's by its sensitivity, within 3.5
  // bits per weight (`pot-trainer quantize --bits-budget`).
  std::string format;
  std::string granularity;  // "row", "g64", ..
  // Of `pot-trainer quantize --method`, and what is done beside it:
  // "gptq+outliers" (0.1 % of the weights), "rtn+equalize", or both.
  std::string method;

  bool is_float() const { return method.empty(); }
  // "pot4-g64-gptq": a file's name.
  std::string Key() const;
  // "pot4 g64 gptq".
  std::string Label() const;

  bool operator==(const ReportCase&) const = default;
};

// All known methods, and rtn and gptq with each addition.
std::vector<std::string> ReportMethods();

// What `pot-trainer quantize` does, but for the model and the calibration.
// INVALID_ARGUMENT for an addition that is unknown or there twice, and for a
// budget of bits that is none.
absl::StatusOr<QuantizeJob> JobOf(const ReportCase& which);

// Whether it looks at a calibration text.
bool NeedsCalibration(const ReportCase& which);

struct ReportSelection {
  std::vector<std::string> formats;
  std::vector<std::string> granularities;
  std::vector<std::string> methods;
};

// The float model, then every combination, the method changing fastest;
// combinations that do not go together (--method paper without the papers'
// levels) are left out, and named in `left_out`. INVALID_ARGUMENT for an empty
// list, and for a name that is unknown or there twice. Whether a budget of bits
// is enough is for the model to say.
absl::StatusOr<std::vector<ReportCase>> PlanReport(
    const ReportSelection& selection, std::vector<std::string>* left_out);

}  // namespace pot

#endif  // POT_TRAINER_REPORT_REPORT_CASE_H_
