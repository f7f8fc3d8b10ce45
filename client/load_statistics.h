// What a load test measured. Times are seconds since the load began.
#ifndef POT_CLIENT_LOAD_STATISTICS_H_
#define POT_CLIENT_LOAD_STATISTICS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/load_plan.h"

namespace pot {

// One request from when it was due, which is before it was sent where the
// sender was late: what a queue in front of the server would cost is counted
// (no coordinated omission).
struct RequestRecord {
  double due = 0;
  double sent = 0;
  std::optional<double> first_token;
  // From token to token; tokens that came in one message are 0 apart.
  std::vector<float> gaps;
  double end = 0;
  absl::StatusCode code = absl::StatusCode::kOk;
  std::string reason;  // of ErrorInfo
  bool told_when_to_retry = false;

  int64_t tokens() const {
    return first_token.has_value() ? static_cast<int64_t>(gaps.size()) + 1 : 0;
  }
  double MeanGap() const;  // 0 with fewer than two tokens
};

// Answered, with at least one token, within all limits that are set.
bool MeetsSlo(const RequestRecord& record, const Slo& slo);

// The smallest of the sorted `values`, which are not empty, that at least
// `share` of them do not exceed (nearest rank, numpy's "inverted_cdf"). `share`
// in (0, 1].
double NearestRank(const std::vector<float>& values, double share);

struct LatencySummary {
  int64_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p95 = 0, p99 = 0, max = 0;
  // The values themselves, in ascending order.
  std::vector<float> values;
};

LatencySummary SummarizeLatencies(std::vector<float> values);

// Requests that failed with one code.
struct FailureSummary {
  int64_t requests = 0;
  int64_t told_when_to_retry = 0;
  std::map<std::string, int64_t> reasons;  // those that the server gave
  LatencySummary latency;                  // from due to the end
};

// Latencies and counts are those of the requests that were due in the window
// [begin, begin + seconds), all of which ended; rates count what arrived in the
// window, whenever it was asked for, so that neither end of it is blurred.
struct LoadSummary {
  double seconds = 0;
  int64_t requests = 0;
  int64_t answered = 0;
  int64_t met_slo = 0;
  std::map<std::string, FailureSummary> failures;  // by name of the code
  double answers_per_second = 0;
  double goodput = 0;  // answers per second that met the SLO
  double tokens_per_second = 0;
  LatencySummary first_token, inter_token, total;  // of answered requests
  double max_send_delay = 0;                       // from due to sent
};

LoadSummary SummarizeLoad(const std::vector<RequestRecord>& records,
                          double begin, double seconds, const Slo& slo);

}  // namespace pot

#endif  // POT_CLIENT_LOAD_STATISTICS_H_
