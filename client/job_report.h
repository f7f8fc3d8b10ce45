// Jobs for people.
#ifndef POT_CLIENT_JOB_REPORT_H_
#define POT_CLIENT_JOB_REPORT_H_

#include <string>

#include "absl/time/time.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "pot/v1/qat_job.pb.h"
#include "pot/v1/training.pb.h"

namespace pot {

// A row per job; ages count up to `now`.
std::string FormatJobTable(
    const google::protobuf::RepeatedPtrField<v1::QatJob>& jobs, absl::Time now);

// All that is known about one job, a figure per line. Of the specification what
// differs from the defaults, or `all_fields`.
std::string FormatJob(const v1::QatJob& job, bool all_fields);

// A row per checkpoint.
std::string FormatCheckpointTable(
    const google::protobuf::RepeatedPtrField<v1::JobCheckpoint>& checkpoints);

// Steps, tokens, epochs, time and memory, a figure per line; or on one line:
// "2,000 steps of 768 tokens (1.53 epochs), about 2 min 40 s, 512 MB".
std::string FormatEstimate(const v1::JobEstimate& estimate);
std::string FormatEstimateLine(const v1::JobEstimate& estimate);

// How a final job ended, for one line: "published as tiny@3 after 2 min 40 s;
// perplexity 4.6012, 1.0213x the base's".
std::string FormatOutcome(const v1::QatJob& job);

}  // namespace pot

#endif  // POT_CLIENT_JOB_REPORT_H_
