#include "client/load_report.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/table.h"
#include "client/text_format.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

using Json = nlohmann::ordered_json;

std::string Milliseconds(double seconds) {
  const double ms = 1e3 * seconds;
  return absl::StrFormat(ms < 10 ? "%.2f" : ms < 1000 ? "%.1f" : "%.0f", ms);
}

std::string Rate(double per_second) {
  return absl::StrFormat(per_second < 1000 ? "%.1f" : "%.0f", per_second);
}

std::string ModelName(const v1::ModelVersion& model) {
  return absl::StrCat(Printable(model.name()), "@", model.version());
}

std::string RateTable(const std::vector<LevelResult>& results, bool slo) {
  constexpr auto kRight = Table::Align::kRight;
  std::vector<Table::Column> columns = {{"load"},
                                        {"requests", kRight},
                                        {"failed", kRight},
                                        {"answers/s", kRight},
                                        {"tokens/s", kRight}};
  if (slo) {
    columns.push_back({"goodput/s", kRight});
    columns.push_back({"met", kRight});
  }
  Table table(columns);
  for (const auto& [level, summary] : results) {
    std::vector<std::string> cells = {
        LevelName(level), absl::StrCat(summary.requests),
        absl::StrCat(summary.requests - summary.answered),
        Rate(summary.answers_per_second), Rate(summary.tokens_per_second)};
    if (slo) {
      cells.push_back(Rate(summary.goodput));
      cells.push_back(
          summary.requests == 0
              ? "-"
              : absl::StrFormat("%.1f %%",
                                100.0 * static_cast<double>(summary.met_slo) /
                                    static_cast<double>(summary.requests)));
    }
    table.AddRow(std::move(cells));
  }
  return table.ToString();
}

std::string LatencyTable(const std::vector<LevelResult>& results) {
  constexpr auto kRight = Table::Align::kRight;
  Table table({{"load"},
               {"ms"},
               {"mean", kRight},
               {"p50", kRight},
               {"p90", kRight},
               {"p95", kRight},
               {"p99", kRight},
               {"max", kRight}});
  for (const auto& [level, summary] : results) {
    std::string name = LevelName(level);
    for (const auto& [what, latency] :
         {std::pair{"first token", &summary.first_token},
          std::pair{"inter-token", &summary.inter_token},
          std::pair{"whole answer", &summary.total}}) {
      std::vector<std::string> cells = {std::exchange(name, ""), what};
      for (const double value : {latency->mean, latency->p50, latency->p90,
                                 latency->p95, latency->p99, latency->max}) {
        cells.push_back(latency->count == 0 ? "-" : Milliseconds(value));
      }
      table.AddRow(std::move(cells));
    }
  }
  return table.ToString();
}

std::string FailureLines(const std::vector<LevelResult>& results) {
  std::string text;
  for (const auto& [level, summary] : results) {
    for (const auto& [code, failure] : summary.failures) {
      std::vector<std::string> reasons;
      for (const auto& [reason, count] : failure.reasons) {
        reasons.push_back(absl::StrCat(count, " ", Printable(reason)));
      }
      absl::StrAppend(
          &text, LevelName(level), ": ", failure.requests, " ", code,
          reasons.empty()
              ? ""
              : absl::StrCat(" (", absl::StrJoin(reasons, ", "), ")"),
          ", ", failure.told_when_to_retry, " with a time to retry, after ",
          Milliseconds(failure.latency.p50), " ms (p50), ",
          Milliseconds(failure.latency.p99), " ms (p99), ",
          Milliseconds(failure.latency.max), " ms (max)\n");
    }
  }
  return text;
}

Json LatencyObject(const LatencySummary& latency) {
  if (latency.count == 0) return nullptr;
  return {{"count", latency.count}, {"mean", latency.mean},
          {"p50", latency.p50},     {"p90", latency.p90},
          {"p95", latency.p95},     {"p99", latency.p99},
          {"max", latency.max}};
}

Json FailureObject(const FailureSummary& failure) {
  Json reasons = Json::object();
  for (const auto& [reason, count] : failure.reasons) reasons[reason] = count;
  return {{"requests", failure.requests},
          {"told_when_to_retry", failure.told_when_to_retry},
          {"reasons", std::move(reasons)},
          {"seconds", LatencyObject(failure.latency)}};
}

Json LevelObject(const LevelResult& result, const LoadPlan& plan) {
  const LoadSummary& summary = result.summary;
  Json object;
  if (result.level.open()) {
    object["rate"] = result.level.rate;
    object["poisson"] = plan.poisson;
  } else {
    object["concurrency"] = result.level.concurrency;
  }
  object["requests"] = summary.requests;
  object["answered"] = summary.answered;
  object["met_slo"] = summary.met_slo;
  object["answers_per_second"] = summary.answers_per_second;
  object["tokens_per_second"] = summary.tokens_per_second;
  object["goodput_per_second"] = summary.goodput;
  object["first_token_seconds"] = LatencyObject(summary.first_token);
  object["inter_token_seconds"] = LatencyObject(summary.inter_token);
  object["total_seconds"] = LatencyObject(summary.total);
  object["failures"] = Json::object();
  for (const auto& [code, failure] : summary.failures) {
    object["failures"][code] = FailureObject(failure);
  }
  object["max_send_delay_seconds"] = summary.max_send_delay;
  return object;
}

Json SloObject(const Slo& slo) {
  Json object = Json::object();
  if (slo.first_token.has_value()) {
    object["first_token_seconds"] = *slo.first_token;
  }
  if (slo.inter_token.has_value()) {
    object["inter_token_seconds"] = *slo.inter_token;
  }
  if (slo.total.has_value()) object["total_seconds"] = *slo.total;
  return object;
}

}  // namespace

std::string FormatLoadTable(const LoadDescription& description,
                            const LoadPlan& plan,
                            const std::vector<LevelResult>& results) {
  const std::string slo = FormatSlo(plan.slo);
  return absl::StrCat(
      ModelName(description.model), " at ", Printable(description.server), ": ",
      Printable(description.prompts), ", ",
      FormatTokenRange(description.max_new_tokens), " new tokens, ",
      absl::FormatDuration(plan.duration), " each after ",
      absl::FormatDuration(plan.warmup), ", seed ", plan.seed,
      slo.empty() ? "" : absl::StrCat("; SLO ", slo), "\n\n",
      RateTable(results, !slo.empty()), "\n", LatencyTable(results),
      FailureLines(results));
}

std::string LoadJson(const LoadDescription& description, const LoadPlan& plan,
                     const std::vector<LevelResult>& results, bool indented) {
  Json object;
  object["server"] = description.server;
  object["model"] = {{"name", description.model.name()},
                     {"version", description.model.version()},
                     {"sha256", description.model.digest()}};
  object["prompts"] = description.prompts;
  object["max_new_tokens"] = FormatTokenRange(description.max_new_tokens);
  object["duration_seconds"] = absl::ToDoubleSeconds(plan.duration);
  object["warmup_seconds"] = absl::ToDoubleSeconds(plan.warmup);
  object["connections"] = plan.connections;
  object["seed"] = plan.seed;
  object["slo"] = SloObject(plan.slo);
  object["levels"] = Json::array();
  for (const LevelResult& result : results) {
    object["levels"].push_back(LevelObject(result, plan));
  }
  // The server's name and file names are UTF-8; a reason might not be.
  return absl::StrCat(
      object.dump(indented ? 2 : -1, ' ', /*ensure_ascii=*/false,
                  Json::error_handler_t::replace),
      "\n");
}

}  // namespace pot
