#ifndef POT_CLIENT_PLOT_GNUPLOT_H_
#define POT_CLIENT_PLOT_GNUPLOT_H_

#include <string>

#include "absl/status/statusor.h"

namespace pot {

// Runs the script in gnuplot, without a shell and without the person's
// settings, and returns what it writes to its standard output.
// FAILED_PRECONDITION, naming Debian's package, when gnuplot is not installed;
// INTERNAL with gnuplot's own words when it fails.
absl::StatusOr<std::string> RunGnuplot(const std::string& script);

}  // namespace pot

#endif  // POT_CLIENT_PLOT_GNUPLOT_H_
