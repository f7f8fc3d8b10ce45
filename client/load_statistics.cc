#include "client/load_statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>

namespace pot {
namespace {

bool Within(double time, double begin, double seconds) {
  return time >= begin && time < begin + seconds;
}

bool MeetsLimit(double value, const std::optional<double>& limit) {
  return !limit.has_value() || value <= *limit;
}

int64_t TokensWithin(const RequestRecord& record, double begin,
                     double seconds) {
  if (!record.first_token.has_value()) return 0;
  double time = *record.first_token;
  int64_t tokens = Within(time, begin, seconds) ? 1 : 0;
  for (const float gap : record.gaps) {
    time += static_cast<double>(gap);
    if (Within(time, begin, seconds)) ++tokens;
  }
  return tokens;
}

}  // namespace

double RequestRecord::MeanGap() const {
  if (gaps.empty()) return 0;
  return std::accumulate(gaps.begin(), gaps.end(), 0.0) /
         static_cast<double>(gaps.size());
}

bool MeetsSlo(const RequestRecord& record, const Slo& slo) {
  return record.code == absl::StatusCode::kOk &&
         record.first_token.has_value() &&
         MeetsLimit(*record.first_token - record.due, slo.first_token) &&
         MeetsLimit(record.MeanGap(), slo.inter_token) &&
         MeetsLimit(record.end - record.due, slo.total);
}

double NearestRank(const std::vector<float>& values, double share) {
  const auto rank = static_cast<size_t>(
      std::ceil(share * static_cast<double>(values.size())));
  return static_cast<double>(
      values[std::clamp<size_t>(rank, 1, values.size()) - 1]);
}

LatencySummary SummarizeLatencies(std::vector<float> values) {
  LatencySummary summary;
  summary.count = static_cast<int64_t>(values.size());
  if (values.empty()) return summary;
  std::sort(values.begin(), values.end());
  summary.mean = std::accumulate(values.begin(), values.end(), 0.0) /
                 static_cast<double>(values.size());
  summary.p50 = NearestRank(values, 0.5);
  summary.p90 = NearestRank(values, 0.9);
  summary.p95 = NearestRank(values, 0.95);
  summary.p99 = NearestRank(values, 0.99);
  summary.max = static_cast<double>(values.back());
  summary.values = std::move(values);
  return summary;
}

LoadSummary SummarizeLoad(const std::vector<RequestRecord>& records,
                          double begin, double seconds, const Slo& slo) {
  LoadSummary summary;
  summary.seconds = seconds;
  std::vector<float> first_token, inter_token, total;
  std::map<std::string, std::vector<float>> failed;
  int64_t answers = 0, good = 0, tokens = 0;
  for (const RequestRecord& record : records) {
    const bool ok = record.code == absl::StatusCode::kOk;
    const bool met = MeetsSlo(record, slo);
    tokens += TokensWithin(record, begin, seconds);
    if (ok && Within(record.end, begin, seconds)) {
      ++answers;
      if (met) ++good;
    }
    if (!Within(record.due, begin, seconds)) continue;
    ++summary.requests;
    summary.max_send_delay =
        std::max(summary.max_send_delay, record.sent - record.due);
    const auto whole = static_cast<float>(record.end - record.due);
    if (!ok) {
      const std::string code = absl::StatusCodeToString(record.code);
      FailureSummary& failure = summary.failures[code];
      ++failure.requests;
      if (record.told_when_to_retry) ++failure.told_when_to_retry;
      if (!record.reason.empty()) ++failure.reasons[record.reason];
      failed[code].push_back(whole);
      continue;
    }
    ++summary.answered;
    if (met) ++summary.met_slo;
    total.push_back(whole);
    if (record.first_token.has_value()) {
      first_token.push_back(
          static_cast<float>(*record.first_token - record.due));
    }
    inter_token.insert(inter_token.end(), record.gaps.begin(),
                       record.gaps.end());
  }
  for (auto& [code, latencies] : failed) {
    summary.failures[code].latency = SummarizeLatencies(std::move(latencies));
  }
  summary.answers_per_second = static_cast<double>(answers) / seconds;
  summary.goodput = static_cast<double>(good) / seconds;
  summary.tokens_per_second = static_cast<double>(tokens) / seconds;
  summary.first_token = SummarizeLatencies(std::move(first_token));
  summary.inter_token = SummarizeLatencies(std::move(inter_token));
  summary.total = SummarizeLatencies(std::move(total));
  return summary;
}

}  // namespace pot
