#include "client/load_plan.h"

#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/text_format.h"
#include "engine/base/philox.h"

namespace pot {
namespace {

constexpr int64_t kMaxTokens = 1'000'000;
constexpr int64_t kMaxConcurrency = 10'000;
constexpr double kMaxRate = 100'000;
// Records of that many are kept.
constexpr int64_t kMaxRequests = 10'000'000;
constexpr int kMaxConnections = 256;
constexpr absl::Duration kMaxDuration = absl::Hours(24);

// Draws of the times apart from those of the prompts (load_prompts.cc).
constexpr uint32_t kArrivalStream = 2;

std::optional<double>* SloField(absl::string_view name, Slo* slo) {
  if (name == "ttft") return &slo->first_token;
  if (name == "itl") return &slo->inter_token;
  if (name == "total") return &slo->total;
  return nullptr;
}

}  // namespace

std::string LevelName(const LoadLevel& level) {
  return level.open() ? absl::StrCat("rate ", FormatReal(level.rate), "/s")
                      : absl::StrCat("concurrency ", level.concurrency);
}

absl::StatusOr<Slo> ParseSlo(const std::string& text) {
  Slo slo;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    std::optional<double>* const field = SloField(pair.first, &slo);
    absl::Duration limit;
    if (field == nullptr || field->has_value() ||
        !ParseTimeout(pair.second, &limit)) {
      return absl::InvalidArgumentError(
          absl::StrCat(Quoted(part),
                       " is none of ttft=TIME, itl=TIME and total=TIME, each "
                       "once, with times such as 200ms"));
    }
    *field = absl::ToDoubleSeconds(limit);
  }
  return slo;
}

std::string FormatSlo(const Slo& slo) {
  std::vector<std::string> parts;
  for (const auto& [name, limit] :
       {std::pair<const char*, std::optional<double>>{"ttft", slo.first_token},
        {"itl", slo.inter_token},
        {"total", slo.total}}) {
    if (!limit.has_value()) continue;
    parts.push_back(
        absl::StrCat(name, "=", absl::FormatDuration(absl::Seconds(*limit))));
  }
  return absl::StrJoin(parts, ",");
}

absl::StatusOr<TokenRange> ParseTokenRange(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  TokenRange range;
  if (parts.size() > 2 || !absl::SimpleAtoi(parts.front(), &range.low) ||
      !absl::SimpleAtoi(parts.back(), &range.high) || range.low < 1 ||
      range.high < range.low || range.high > kMaxTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(text), " is neither a number of tokens nor LOW:HIGH",
                     " within 1:", kMaxTokens));
  }
  return range;
}

std::string FormatTokenRange(const TokenRange& range) {
  return range.low == range.high ? absl::StrCat(range.low)
                                 : absl::StrCat(range.low, ":", range.high);
}

absl::Status CheckLoadPlan(const LoadPlan& plan) {
  const auto bad = [](const std::string& flag, const std::string& value,
                      const std::string& limit) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, " ", value, " is not within ", limit));
  };
  for (const LoadLevel& level : plan.levels) {
    if (level.open()) {
      const double requests =
          level.rate * absl::ToDoubleSeconds(plan.duration + plan.warmup);
      if (!(level.rate <= kMaxRate)) {
        return bad("--rate", FormatReal(level.rate),
                   absl::StrCat("(0, ", FormatReal(kMaxRate), "]"));
      }
      if (!(requests <= static_cast<double>(kMaxRequests))) {
        return absl::InvalidArgumentError(
            absl::StrCat("--rate times --duration makes ", FormatReal(requests),
                         " requests; the limit is ", kMaxRequests));
      }
    } else if (level.concurrency < 1 || level.concurrency > kMaxConcurrency) {
      return bad("--concurrency", absl::StrCat(level.concurrency),
                 absl::StrCat("[1, ", kMaxConcurrency, "]"));
    }
  }
  if (plan.connections < 1 || plan.connections > kMaxConnections) {
    return bad("--connections", absl::StrCat(plan.connections),
               absl::StrCat("[1, ", kMaxConnections, "]"));
  }
  if (plan.duration > kMaxDuration || plan.warmup > kMaxDuration) {
    return bad("--duration or --warmup",
               absl::FormatDuration(std::max(plan.duration, plan.warmup)),
               absl::StrCat("[0, ", absl::FormatDuration(kMaxDuration), "]"));
  }
  return absl::OkStatus();
}

double Arrivals::Next() {
  if (!poisson_) return static_cast<double>(count_++) / rate_;
  // 1 - u is in (0, 1].
  last_ -= std::log(1 - PhiloxUniform(seed_, kArrivalStream, count_++)) / rate_;
  return last_;
}

}  // namespace pot
