#ifndef POT_TRAINER_REPORT_REPORT_PLOT_H_
#define POT_TRAINER_REPORT_REPORT_PLOT_H_

#include <string>
#include <vector>

#include "client/plot/plot_file.h"
#include "trainer/report/report_row.h"

namespace pot {

// A gnuplot script: perplexity, where it can as what it is above the float
// model's, against bits per weight; a colour per method, a shape per format,
// the Pareto front as a line whose points are named. Whatever `title` is, the
// script runs no command and opens no file.
std::string MakeReportPlotScript(const std::string& title,
                                 const std::vector<ReportRow>& rows,
                                 PlotFormat format);

}  // namespace pot

#endif  // POT_TRAINER_REPORT_REPORT_PLOT_H_
