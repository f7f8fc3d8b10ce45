#include "client/job_plot.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/job_spec_report.h"
#include "client/model_report.h"

namespace pot {
namespace {

constexpr size_t kMaxPoints = 2000;

std::string Title(const v1::QatJob& job) {
  std::string title =
      absl::StrCat(job.job_id(), ": ", FormatBase(job.spec()), " as ",
                   FormatName(job.spec().quantization()));
  if (job.has_published()) {
    absl::StrAppend(&title, ", published as ", job.published().name(), "@",
                    job.published().version());
  }
  return title;
}

// Rows of numbers as a named block of data.
template <typename Point, typename Row>
std::string Data(const char* name, const std::vector<Point>& points,
                 const Row& row) {
  std::string text = absl::StrCat("$", name, " << EOD\n");
  for (const Point& point : points) absl::StrAppend(&text, row(point), "\n");
  absl::StrAppend(&text, "EOD\n");
  return text;
}

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void Add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

// All of the smoothed loss and of the validation, but of the raw loss not the
// rarest spikes, which would press everything else down.
Range LossRange(const JobCurves& curves) {
  Range range;
  std::vector<double> raw;
  for (const JobCurves::Training& point : curves.training()) {
    range.Add(point.smoothed_loss);
    raw.push_back(point.loss);
  }
  for (const JobCurves::Validation& point : curves.validation()) {
    range.Add(point.nats - point.standard_error);
    range.Add(point.nats + point.standard_error);
  }
  if (curves.base_nats().has_value()) range.Add(*curves.base_nats());
  if (!raw.empty()) {
    std::sort(raw.begin(), raw.end());
    range.Add(raw[raw.size() / 200]);
    range.Add(raw[raw.size() - 1 - raw.size() / 200]);
  }
  const double margin = std::max(
      {0.04 * (range.high - range.low), 1e-3 * std::abs(range.high), 1e-6});
  range.low -= margin;
  range.high += margin;
  return range;
}

double PeakRate(const JobCurves& curves) {
  double peak = 0;
  for (const JobCurves::Training& point : curves.training()) {
    peak = std::max(peak, point.learning_rate);
  }
  return peak;
}

// The power of ten that the axis of learning rates counts in.
int RateExponent(double peak) {
  return peak > 0 ? static_cast<int>(std::floor(std::log10(peak))) : 0;
}

// `rate_limit` is the top of that axis, in its unit.
std::string Axes(const JobCurves& curves, int rate_exponent,
                 double rate_limit) {
  const Range range = LossRange(curves);
  std::string text = absl::StrFormat(
      "set xlabel 'step'\n"
      "set ylabel 'loss (nats per token)'\n"
      "set xrange [0:*]\n"
      "set format x '%%.0f'\n"
      "set yrange [%.9g:%.9g]\n"
      "set ytics nomirror\n"
      "set border lw 0.8 lc rgb '#666666'\n"
      "set grid lc rgb '#e4e4e4' lt 1 lw 0.8\n"
      "set key top right Left reverse opaque box lc rgb '#cccccc' "
      "spacing 1.15 samplen 2.5\n",
      range.low, range.high);
  if (!curves.training().empty()) {
    absl::StrAppendFormat(&text,
                          "set y2label 'learning rate (10^{%d})'\n"
                          "set y2tics nomirror\n"
                          "set y2range [0:%.9g]\n",
                          rate_exponent, rate_limit);
  }
  return text;
}

std::string BestLabel(const JobCurves::Validation& best) {
  return absl::StrFormat(
      "set label 1 'best: %.4f nats, perplexity %.4f at step %d' at "
      "graph 0.015, graph 0.035 left front textcolor rgb '#b3360b'\n",
      best.nats, best.perplexity, best.step);
}

}  // namespace

std::string MakePlotScript(const v1::QatJob& job, const JobCurves& curves,
                           PlotFormat format) {
  const double peak_rate = PeakRate(curves);
  const int exponent = RateExponent(peak_rate);
  const double rate_unit = std::pow(10.0, exponent);
  const double rate_limit = peak_rate > 0 ? 1.1 * peak_rate / rate_unit : 1;
  std::string script =
      absl::StrCat(PlotTerminal(format), "set title ", PlotQuoted(Title(job)),
                   PlotTitleFont(format), Axes(curves, exponent, rate_limit));
  std::vector<std::string> plots;
  if (!curves.training().empty()) {
    absl::StrAppend(
        &script, Data("train", Thin(curves.training(), kMaxPoints),
                      [rate_unit](const JobCurves::Training& point) {
                        return absl::StrFormat("%d %.9g %.9g %.9g", point.step,
                                               point.loss, point.smoothed_loss,
                                               point.learning_rate / rate_unit);
                      }));
    plots.emplace_back(
        "$train using 1:4 axes x1y2 with lines lw 1.3 dt 2 lc rgb '#a9a9a9' "
        "title 'learning rate'");
    plots.emplace_back(
        "$train using 1:2 with lines lw 1 lc rgb '#bcd3ea' "
        "title 'training loss'");
    plots.emplace_back(
        "$train using 1:3 with lines lw 2.2 lc rgb '#1f66ad' "
        "title 'training loss, smoothed'");
  }
  if (curves.base_nats().has_value()) {
    plots.push_back(
        absl::StrFormat("%.9g with lines lw 1.5 dt 4 lc rgb '#2e8b57' "
                        "title 'base, validation (%.4f)'",
                        *curves.base_nats(), *curves.base_nats()));
  }
  const JobCurves::Validation* const best = curves.best();
  if (best != nullptr) {
    const auto row = [](const JobCurves::Validation& point) {
      return absl::StrFormat("%d %.9g %.9g", point.step, point.nats,
                             point.standard_error);
    };
    absl::StrAppend(
        &script, Data("validation", curves.validation(), row),
        Data("best", std::vector<JobCurves::Validation>{*best}, row),
        BestLabel(*best));
    plots.emplace_back(
        "$validation using 1:2:3 with yerrorlines lw 1.8 pt 7 ps 0.8 "
        "lc rgb '#e07b39' title 'validation'");
    plots.emplace_back(
        "$best using 1:2 with points pt 6 ps 2.6 lw 2.5 lc rgb '#b3360b' "
        "title 'best checkpoint'");
  }
  absl::StrAppend(&script, "plot ", absl::StrJoin(plots, ", \\\n     "), "\n");
  return script;
}

}  // namespace pot
