#include "client/plot/plot_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/plot/gnuplot.h"
#include "client/text_format.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"

namespace pot {

absl::StatusOr<PlotFormat> PlotFormatOf(const std::string& flag,
                                        const std::string& path) {
  if (absl::EndsWithIgnoreCase(path, ".svg")) return PlotFormat::kSvg;
  if (absl::EndsWithIgnoreCase(path, ".png")) return PlotFormat::kPng;
  return absl::InvalidArgumentError(absl::StrCat(
      flag, " ", Quoted(path), " is not the name of an .svg or a .png file"));
}

std::string PlotTerminal(PlotFormat format) {
  return absl::StrCat("set encoding utf8\nset terminal ",
                      format == PlotFormat::kSvg
                          ? "svg size 1200,720 dynamic font 'DejaVu Sans,15'"
                          : "pngcairo size 1200,720 font 'DejaVu Sans,11'",
                      " background '#ffffff' enhanced\n");
}

std::string PlotTitleFont(PlotFormat format) {
  return format == PlotFormat::kSvg ? " noenhanced font ':Bold,18'\n"
                                    : " noenhanced font ':Bold,13'\n";
}

std::string PlotQuoted(const std::string& text) {
  return absl::StrCat("'", absl::StrReplaceAll(Printable(text), {{"'", "''"}}),
                      "'");
}

absl::Status DrawPlot(const std::string& script, const std::string& path) {
  POT_ASSIGN_OR_RETURN(const std::string figure, RunGnuplot(script));
  const std::string part = absl::StrCat(path, ".part");
  absl::Status status = WriteFile(part, figure);
  if (status.ok() && std::rename(part.c_str(), path.c_str()) != 0) {
    status = absl::InvalidArgumentError(absl::StrCat(
        "cannot write ", Printable(path), ": ", std::strerror(errno)));
  }
  if (!status.ok()) std::remove(part.c_str());
  return status;
}

}  // namespace pot
