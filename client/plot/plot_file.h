// What all figures share: the file, its format, and words in gnuplot's script.
#ifndef POT_CLIENT_PLOT_PLOT_FILE_H_
#define POT_CLIENT_PLOT_PLOT_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pot {

enum class PlotFormat { kSvg, kPng };

// By the end of the name. INVALID_ARGUMENT, naming the flag, for another one.
absl::StatusOr<PlotFormat> PlotFormatOf(const std::string& flag,
                                        const std::string& path);

// The script's first line: encoding, format, size and font.
std::string PlotTerminal(PlotFormat format);
// What follows a title: size and weight of the terminal's font, and no markup.
std::string PlotTitleFont(PlotFormat format);

// A string of gnuplot's in single quotes, within which only the quote itself
// means anything.
std::string PlotQuoted(const std::string& text);

// Draws with gnuplot beside `path` and renames, so that a figure is there whole
// or not at all.
absl::Status DrawPlot(const std::string& script, const std::string& path);

}  // namespace pot

#endif  // POT_CLIENT_PLOT_PLOT_FILE_H_
