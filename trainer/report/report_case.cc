#include "trainer/report/report_case.h"

#include <algorithm>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/quant/granularity.h"
#include "engine/quant/pot_format.h"

namespace pot {
namespace {

// What may follow a method.
constexpr char kOutliers[] = "outliers";
constexpr char kEqualize[] = "equalize";
// What a budget of bits follows, as a format.
constexpr char kMixed[] = "mixed";

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

absl::Status SetFormat(const std::string& format, QuantizeFlags* flags) {
  absl::string_view budget = format;
  if (!absl::ConsumePrefix(&budget, kMixed)) {
    flags->format = format;
    return absl::OkStatus();
  }
  double bits = 0;
  // One spelling of each, as it is a name.
  if (!absl::SimpleAtod(budget, &bits) ||
      !(bits >= kMinBitsBudget && bits <= kMaxBitsBudget) ||
      budget != absl::StrCat(bits)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "format ", Quote(format), ": ", kMixed,
        " is followed by bits per weight from ", kMinBitsBudget, " to ",
        kMaxBitsBudget, ", mixed3.5, not by ", Quote(budget)));
  }
  flags->bits_budget = bits;
  return absl::OkStatus();
}

absl::Status CheckCase(const ReportCase& which) {
  POT_ASSIGN_OR_RETURN(QuantizeJob job, JobOf(which));
  if (NeedsCalibration(which)) job.calibration.texts = {"self"};
  return CheckQuantizeJob(job);
}

absl::Status CheckNames(const ReportSelection& selection) {
  for (const std::string& format : selection.formats) {
    QuantizeFlags flags;
    POT_RETURN_IF_ERROR(SetFormat(format, &flags));
    POT_RETURN_IF_ERROR(FindPotFormat(flags.format).status());
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

std::vector<std::string> ReportMethods() {
  std::vector<std::string> methods = QuantizeMethods();
  for (const char* const method : {"rtn", "gptq"}) {
    for (const char* const addition : {kOutliers, kEqualize}) {
      methods.push_back(absl::StrCat(method, "+", addition));
    }
  }
  return methods;
}

absl::StatusOr<QuantizeJob> JobOf(const ReportCase& which) {
  QuantizeJob job;
  POT_RETURN_IF_ERROR(SetFormat(which.format, &job.quantize));
  job.quantize.granularity = which.granularity;
  const std::vector<std::string> parts = absl::StrSplit(which.method, '+');
  job.quantize.method = parts[0];
  for (size_t i = 1; i < parts.size(); ++i) {
    if (std::find(parts.begin() + 1, parts.begin() + i, parts[i]) !=
        parts.begin() + i) {
      return absl::InvalidArgumentError(absl::StrCat(
          "method ", Quote(which.method), " has ", Quote(parts[i]), " twice"));
    }
    if (parts[i] == kOutliers) {
      job.quantize.outliers = "0.1%";
    } else if (parts[i] == kEqualize) {
      job.calibration.equalize = true;
    } else {
      return absl::InvalidArgumentError(absl::StrCat(
          "method ", Quote(which.method), ": known additions are +", kOutliers,
          " and +", kEqualize, ", not ", Quote(parts[i])));
    }
  }
  return job;
}

bool NeedsCalibration(const ReportCase& which) {
  const absl::StatusOr<QuantizeJob> job = JobOf(which);
  return job.ok() &&
         (NeedsCalibration(job->quantize.method) || job->calibration.equalize ||
          job->quantize.bits_budget > 0);
}

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
