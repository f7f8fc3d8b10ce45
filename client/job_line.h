#ifndef POT_CLIENT_JOB_LINE_H_
#define POT_CLIENT_JOB_LINE_H_

#include <optional>
#include <string>
#include <vector>

#include "pot/v1/qat_job.pb.h"

namespace pot {

// How a job stands, as one line of a terminal shows it.
struct JobLine {
  v1::QatJobState state = v1::QAT_JOB_STATE_UNSPECIFIED;
  v1::JobProgress progress;
  // Smoothed training losses so far.
  std::vector<double> losses;
  std::optional<v1::CheckpointEvaluation> best;
};

// "[########............] 42 %  840/2,000  loss 1.5231  ▇▅▃▂▁  ETA 1 min 34 s
//  12,345 tokens/s  best 4.6282 at 800", of which the least important parts are
// left out when `columns` are too few.
std::string FormatJobLine(const JobLine& line, int columns, bool utf8);

}  // namespace pot

#endif  // POT_CLIENT_JOB_LINE_H_
