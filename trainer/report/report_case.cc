#include "trainer/report/report_case.h"

#include <set>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/quant/granularity.h"
#include "engine/quant/pot_format.h"
#include "trainer/quantize_job.h"

namespace pot {
namespace {

absl::Status CheckList(const char* flag,
                       const std::vector<std::string>& names) {
  if (names.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(flag, " names nothing"));
  }
  std::set<std::string> seen;
  for (const std::string& name : names) {
    if (!seen.insert(name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(flag, " has ", Quote(name), " twice"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckCase(const ReportCase& which) {
  QuantizeJob job;
  job.quantize.format = which.format;
  job.quantize.granularity = which.granularity;
  job.quantize.method = which.method;
  if (NeedsCalibration(which.method)) job.calibration.texts = {"self"};
  return CheckQuantizeJob(job);
}

absl::Status CheckNames(const ReportSelection& selection) {
  for (const std::string& format : selection.formats) {
    POT_RETURN_IF_ERROR(FindPotFormat(format).status());
  }
  for (const std::string& granularity : selection.granularities) {
    POT_RETURN_IF_ERROR(Granularity::Parse(granularity).status());
  }
  // A method that is known goes with the papers' own format.
  for (const std::string& method : selection.methods) {
    POT_RETURN_IF_ERROR(CheckCase({"pot4", "row", method}));
  }
  return absl::OkStatus();
}

}  // namespace

std::string ReportCase::Key() const {
  return is_float() ? format
                    : absl::StrCat(format, "-", granularity, "-", method);
}

std::string ReportCase::Label() const {
  return is_float() ? format
                    : absl::StrCat(format, " ", granularity, " ", method);
}

absl::StatusOr<std::vector<ReportCase>> PlanReport(
    const ReportSelection& selection, std::vector<std::string>* left_out) {
  POT_RETURN_IF_ERROR(CheckList("--formats", selection.formats));
  POT_RETURN_IF_ERROR(CheckList("--granularities", selection.granularities));
  POT_RETURN_IF_ERROR(CheckList("--methods", selection.methods));
  POT_RETURN_IF_ERROR(CheckNames(selection));
  std::vector<ReportCase> cases = {{kFloatFormat, "", ""}};
  for (const std::string& format : selection.formats) {
    for (const std::string& granularity : selection.granularities) {
      for (const std::string& method : selection.methods) {
        const ReportCase which{format, granularity, method};
        if (CheckCase(which).ok()) {
          cases.push_back(which);
        } else {
          left_out->push_back(which.Label());
        }
      }
    }
  }
  return cases;
}

}  // namespace pot
