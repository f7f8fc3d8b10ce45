// What a load test sends, and when.
#ifndef POT_CLIENT_LOAD_PLAN_H_
#define POT_CLIENT_LOAD_PLAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace pot {

// Either a closed loop, in which `concurrency` requests are under way at all
// times, or an open one of `rate` requests per second, whatever comes back.
struct LoadLevel {
  int64_t concurrency = 0;
  double rate = 0;  // 0: closed

  bool open() const { return rate > 0; }
};

// "concurrency 4", "rate 12.5/s".
std::string LevelName(const LoadLevel& level);

// What a request must achieve to count as good; all that are set. Seconds.
struct Slo {
  std::optional<double> first_token;
  // Of the request's mean time from token to token.
  std::optional<double> inter_token;
  std::optional<double> total;
};

// "ttft=200ms,itl=50ms,total=2s", each at most once and over 0.
absl::StatusOr<Slo> ParseSlo(const std::string& text);
// The inverse; empty when nothing is set.
std::string FormatSlo(const Slo& slo);

// Whole numbers low..high, all equally likely.
struct TokenRange {
  int64_t low = 0;
  int64_t high = 0;
};

// "32" or "16:64"; 1 to a million, low <= high.
absl::StatusOr<TokenRange> ParseTokenRange(const std::string& text);
std::string FormatTokenRange(const TokenRange& range);

struct LoadPlan {
  std::vector<LoadLevel> levels;
  bool poisson = false;
  absl::Duration duration = absl::Seconds(10);
  absl::Duration warmup = absl::Seconds(1);
  Slo slo;
  uint64_t seed = 0;
  int connections = 8;
};

// INVALID_ARGUMENT, naming flag, limit and value.
absl::Status CheckLoadPlan(const LoadPlan& plan);

// When an open loop's requests are due, in seconds since its beginning: every
// 1/rate seconds, or with `poisson` after exponential gaps of that mean, the
// same for the same seed.
class Arrivals {
 public:
  Arrivals(double rate, bool poisson, uint64_t seed)
      : rate_(rate), poisson_(poisson), seed_(seed) {}

  // In order; the first one of an even load is at 0.
  double Next();

 private:
  const double rate_;
  const bool poisson_;
  const uint64_t seed_;
  uint64_t count_ = 0;
  double last_ = 0;
};

}  // namespace pot

#endif  // POT_CLIENT_LOAD_PLAN_H_
