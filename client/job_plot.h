#ifndef POT_CLIENT_JOB_PLOT_H_
#define POT_CLIENT_JOB_PLOT_H_

#include <string>

#include "client/job_curves.h"
#include "client/plot/plot_file.h"
#include "pot/v1/qat_job.pb.h"

namespace pot {

// A gnuplot script that draws the curves to its standard output: training loss
// with its smoothed form, validation nats with standard errors and the best one
// marked, the base's nats where known, and the learning rate on a second axis.
// Whatever the job holds, the script runs no command and opens no file.
std::string MakePlotScript(const v1::QatJob& job, const JobCurves& curves,
                           PlotFormat format);

}  // namespace pot

#endif  // POT_CLIENT_JOB_PLOT_H_
