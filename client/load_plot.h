#ifndef POT_CLIENT_LOAD_PLOT_H_
#define POT_CLIENT_LOAD_PLOT_H_

#include <string>
#include <vector>

#include "client/load_report.h"
#include "client/plot/plot_file.h"

namespace pot {

// A gnuplot script of four panels: what share of requests had their first
// token, of gaps between tokens were over and of answers were whole after how
// long, a curve per level, with the SLO's limits; and answers and goodput per
// second by level. Whatever names are in it, the script runs no command and
// opens no file.
std::string MakeLoadPlotScript(const LoadDescription& description,
                               const LoadPlan& plan,
                               const std::vector<LevelResult>& results,
                               PlotFormat format);

}  // namespace pot

#endif  // POT_CLIENT_LOAD_PLOT_H_
