#ifndef POT_CLIENT_JOB_SPEC_REPORT_H_
#define POT_CLIENT_JOB_SPEC_REPORT_H_

#include <string>
#include <utility>
#include <vector>

#include "pot/v1/qat_job.pb.h"

namespace pot {

// Fields of a specification that are set, by their paths in its JSON
// ("schedule.steps", "2000"), in the order of qat_job.proto. Without `all` only
// those that differ from qat_job.proto's defaults. Base, data and gate, which
// reports show on their own, are not among them.
std::vector<std::pair<std::string, std::string>> ListSpecFields(
    const v1::QatJobSpec& spec, bool all);

// "shakespeare-char@1".
std::string FormatBase(const v1::QatJobSpec& spec);

// "2 datasets (0f3a.., 77c1..), validation 2b9e.." or "written by the base,
// 1,048,576 tokens, validation on the last 10 %".
std::string FormatData(const v1::TrainingData& data);

}  // namespace pot

#endif  // POT_CLIENT_JOB_SPEC_REPORT_H_
