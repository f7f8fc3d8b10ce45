// Specifications of jobs: defaults and limits of qat_job.proto.
#ifndef POT_SERVER_TRAINING_QAT_JOB_SPEC_H_
#define POT_SERVER_TRAINING_QAT_JOB_SPEC_H_

#include <string>

#include "absl/status/status.h"
#include "engine/gpt2/gpt2_config.h"
#include "pot/v1/qat_job.pb.h"

namespace pot {

inline constexpr int kMaxJobDatasets = 64;

// Fills in every default that qat_job.proto documents, for a base of this shape
// and name, and checks every field that can be checked without the data and the
// repository; an enum's UNSPECIFIED becomes what it stands for, but for the
// precision, which the worker chooses. INVALID_ARGUMENT (INVALID_FIELD,
// MISSING_FIELD) naming the field's path from "spec." on, the limit and the
// given value. `spec` is then in between.
absl::Status FillQatJobSpec(const Gpt2Config& base, const std::string& name,
                            v1::QatJobSpec* spec);

}  // namespace pot

#endif  // POT_SERVER_TRAINING_QAT_JOB_SPEC_H_
