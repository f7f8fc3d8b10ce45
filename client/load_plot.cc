#include "client/load_plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/text_format.h"

namespace pot {
namespace {

constexpr size_t kPoints = 400;  // of a curve

// Told apart also without colours, by their order in the key.
constexpr std::array<const char*, 8> kColors = {"#1f66ad", "#e07b39", "#2e8b57",
                                                "#8a4fae", "#b3360b", "#5a5a5a",
                                                "#c2a212", "#17a2b8"};

const char* Color(size_t level) { return kColors[level % kColors.size()]; }

// (value in ms, share of values that are not above) of sorted values.
std::string CurveData(const std::string& name,
                      const std::vector<float>& values) {
  std::string text = absl::StrCat("$", name, " << EOD\n");
  const size_t points = std::min(kPoints, values.size());
  for (size_t i = 1; i <= points; ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(points);
    // A logarithmic axis shows nothing below.
    absl::StrAppendFormat(&text, "%.6g %.6g\n",
                          std::max(1e-3, 1e3 * NearestRank(values, share)),
                          share);
  }
  absl::StrAppend(&text, "EOD\n");
  return text;
}

std::string CurvePanel(const std::string& title, const std::string& name,
                       const std::vector<LevelResult>& results,
                       const LatencySummary LoadSummary::*latency,
                       std::optional<double> limit) {
  std::string script =
      absl::StrCat("set title ", PlotQuoted(title), " noenhanced\n",
                   "set logscale x\nset xlabel 'ms'\nset ylabel 'share'\n"
                   "set yrange [0:1]\nset key bottom right\nunset arrow\n");
  std::vector<std::string> plots;
  for (size_t i = 0; i < results.size(); ++i) {
    const std::vector<float>& values = (results[i].summary.*latency).values;
    if (values.empty()) continue;
    const std::string data = absl::StrCat(name, i);
    absl::StrAppend(&script, CurveData(data, values));
    plots.push_back(absl::StrFormat(
        "$%s using 1:2 with steps lw 2 lc rgb '%s' title %s", data, Color(i),
        PlotQuoted(LevelName(results[i].level))));
  }
  if (plots.empty()) return absl::StrCat(script, "set multiplot next\n");
  if (limit.has_value()) {
    absl::StrAppendFormat(&script,
                          "set arrow 1 from %.6g, graph 0 to %.6g, graph 1 "
                          "nohead dt 2 lw 1.5 lc rgb '#888888'\n",
                          1e3 * *limit, 1e3 * *limit);
  }
  return absl::StrCat(script, "plot ", absl::StrJoin(plots, ", \\\n     "),
                      "\n");
}

std::string RatePanel(const std::vector<LevelResult>& results, bool slo) {
  std::string script =
      "set title 'answers per second' noenhanced\n"
      "unset logscale x\nunset xlabel\nunset ylabel\nunset arrow\n"
      "set bmargin 3.5\nset key top left\nset yrange [0:*]\nset offsets 0, 0, "
      "graph 0.2, 0\n"
      "set style data histograms\nset style histogram clustered gap 1\n"
      "set style fill solid 0.85 noborder\nset boxwidth 0.9\n"
      "$rates << EOD\n";
  for (const auto& [level, summary] : results) {
    absl::StrAppendFormat(
        &script, "\"%s\\n%s tokens/s\" %.6g %.6g\n", LevelName(level),
        FormatCount(
            static_cast<uint64_t>(std::round(summary.tokens_per_second))),
        summary.answers_per_second, summary.goodput);
  }
  absl::StrAppend(&script, "EOD\nset xrange [-0.7:",
                  static_cast<double>(results.size()) - 0.3,
                  "]\nplot $rates using 2:xtic(1) lc rgb '#9fc1e3' "
                  "title 'answered'");
  if (slo) {
    absl::StrAppend(&script,
                    ", $rates using 3 lc rgb '#2e8b57' title 'within the SLO'");
  }
  return absl::StrCat(script, "\n");
}

}  // namespace

std::string MakeLoadPlotScript(const LoadDescription& description,
                               const LoadPlan& plan,
                               const std::vector<LevelResult>& results,
                               PlotFormat format) {
  const std::string slo = FormatSlo(plan.slo);
  const std::string title = absl::StrCat(
      description.model.name(), "@", description.model.version(), ": ",
      description.prompts, ", ", FormatTokenRange(description.max_new_tokens),
      " new tokens", slo.empty() ? "" : absl::StrCat("; SLO ", slo));
  return absl::StrCat(
      PlotTerminal(format), "set multiplot layout 2,2 title ",
      PlotQuoted(title), PlotTitleFont(format),
      "set border lw 0.8 lc rgb '#666666'\n"
      "set grid lc rgb '#e4e4e4' lt 1 lw 0.8\n",
      CurvePanel("first token", "first", results, &LoadSummary::first_token,
                 plan.slo.first_token),
      CurvePanel("from token to token", "gap", results,
                 &LoadSummary::inter_token, plan.slo.inter_token),
      CurvePanel("whole answer", "whole", results, &LoadSummary::total,
                 plan.slo.total),
      RatePanel(results, !slo.empty()), "unset multiplot\n");
}

}  // namespace pot
