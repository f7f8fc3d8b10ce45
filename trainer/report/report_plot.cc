#include "trainer/report/report_plot.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace pot {
namespace {

constexpr std::array<const char*, 6> kColors = {
    "#1f66ad", "#e07b39", "#2e8b57", "#8a4fae", "#b3360b", "#5a5a5a"};
// Of gnuplot's points: filled and open ones that are told apart in small.
constexpr std::array<int, 8> kShapes = {7, 5, 9, 13, 11, 6, 4, 8};

// Heights that tell rows apart: perplexities, or, where all are above the float
// model's, how far above on a logarithmic scale. Else one bad row would hide
// how the good ones differ.
class Height {
 public:
  explicit Height(const std::vector<ReportRow>& rows) {
    for (const ReportRow& row : rows) {
      if (row.which.is_float()) float_ = row.sums.perplexity();
    }
    relative_ = float_ > 0;
    for (const ReportRow& row : rows) {
      if (row.which.is_float()) continue;
      relative_ = relative_ && row.sums.perplexity() > float_ * (1 + kLeast);
    }
  }

  double Of(const ReportRow& row) const {
    const double perplexity = row.sums.perplexity();
    return relative_ ? 100 * (perplexity / float_ - 1) : perplexity;
  }

  std::string Axis() const {
    if (!relative_) return "set ylabel 'perplexity'\n";
    // Left alone, gnuplot names powers of ten alone: often one.
    std::vector<std::string> tics;
    for (double decade = 0.01; decade < 1e6; decade *= 10) {
      for (const int digit : {1, 2, 5}) {
        tics.push_back(absl::StrFormat("%.3g", digit * decade));
      }
    }
    return absl::StrFormat(
        "set ylabel 'perplexity above the %.4g of f32, %%'\n"
        "set logscale y\nset ytics nomirror (%s)\n",
        float_, absl::StrJoin(tics, ", "));
  }

  // The float model as a line, unless it is the axis's zero or not there.
  std::string FloatLine() const {
    if (relative_ || float_ == 0) return "";
    return absl::StrFormat(
        "%.9g with lines dt 2 lw 1.5 lc rgb '#222222' title 'f32'", float_);
  }

 private:
  static constexpr double kLeast = 1e-4;
  double float_ = 0;
  bool relative_ = false;
};

// Values of `member`, sorted.
std::vector<std::string> Distinct(const std::vector<ReportRow>& rows,
                                  std::string ReportCase::*member) {
  std::set<std::string> values;
  for (const ReportRow& row : rows) {
    if (!row.which.is_float()) values.insert(row.which.*member);
  }
  return {values.begin(), values.end()};
}

// The points of one method and format as a block, empty when there are none.
std::string Points(const std::vector<ReportRow>& rows, const Height& height,
                   const std::string& method, const std::string& format) {
  std::string points;
  for (const ReportRow& row : rows) {
    if (row.which.method != method || row.which.format != format) continue;
    absl::StrAppendFormat(&points, "%.6g %.9g\n", row.bits_per_weight,
                          height.Of(row));
  }
  return points;
}

// The Pareto front in the order of its bits.
std::vector<const ReportRow*> Front(const std::vector<ReportRow>& rows) {
  std::vector<const ReportRow*> front;
  const std::vector<bool> in_front = ParetoFront(rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (in_front[i]) front.push_back(&rows[i]);
  }
  std::stable_sort(front.begin(), front.end(),
                   [](const ReportRow* a, const ReportRow* b) {
                     return a->bits_per_weight < b->bits_per_weight;
                   });
  return front;
}

}  // namespace

std::string MakeReportPlotScript(const std::string& title,
                                 const std::vector<ReportRow>& rows,
                                 PlotFormat format) {
  const Height height(rows);
  std::string script = absl::StrCat(
      PlotTerminal(format), "set title ", PlotQuoted(title),
      PlotTitleFont(format),
      "set border 3 lw 0.8 lc rgb '#666666'\nset tics nomirror\n"
      "set grid lc rgb '#e4e4e4' lt 1 lw 0.8\n"
      "set xlabel 'bits per weight, scales included'\n",
      height.Axis(),
      // Ends of the axis where the points end, and room for their names.
      "set autoscale yfix\n"
      "set offsets graph 0.04, graph 0.12, graph 0.08, graph 0.08\n"
      "set key outside right top vertical noenhanced\n");
  const std::vector<const ReportRow*> front = Front(rows);
  absl::StrAppend(&script, "$front << EOD\n");
  for (size_t i = 0; i < front.size(); ++i) {
    const ReportRow& row = *front[i];
    absl::StrAppendFormat(&script, "%.6g %.9g \"%s\"\n", row.bits_per_weight,
                          height.Of(row), row.which.Label());
  }
  absl::StrAppend(&script, "EOD\n");
  std::vector<std::string> plots;
  plots.push_back(
      "$front using 1:2 with lines lw 1.5 lc rgb '#bbbbbb' title 'Pareto "
      "front'");
  const std::vector<std::string> methods = Distinct(rows, &ReportCase::method);
  const std::vector<std::string> formats = Distinct(rows, &ReportCase::format);
  for (size_t m = 0; m < methods.size(); ++m) {
    for (size_t f = 0; f < formats.size(); ++f) {
      const std::string points = Points(rows, height, methods[m], formats[f]);
      if (points.empty()) continue;
      const std::string name = absl::StrCat("p", m, "_", f);
      absl::StrAppend(&script, "$", name, " << EOD\n", points, "EOD\n");
      plots.push_back(absl::StrFormat(
          "$%s using 1:2 with points pt %d ps 1.2 lc rgb '%s' title %s", name,
          kShapes[f % kShapes.size()], kColors[m % kColors.size()],
          PlotQuoted(absl::StrCat(formats[f], " ", methods[m]))));
    }
  }
  plots.push_back(
      "$front using 1:2:3 with labels noenhanced left offset 0.5,-0.9 font "
      "',9' tc rgb '#444444' notitle");
  const std::string line = height.FloatLine();
  if (!line.empty()) plots.push_back(line);
  return absl::StrCat(script, "plot ", absl::StrJoin(plots, ", \\\n     "),
                      "\n");
}

}  // namespace pot
