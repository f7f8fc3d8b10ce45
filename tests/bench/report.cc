#include "tests/bench/report.h"

#include <algorithm>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/gpt2/engine_version.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

std::string Bound(const Figure& figure) {
  if (figure.at_least) return absl::StrFormat(">= %g", *figure.at_least);
  if (figure.at_most) return absl::StrFormat("<= %g", *figure.at_most);
  return "";
}

std::string Verdict(const Figure& figure) {
  if (figure.at_least) {
    return figure.value >= *figure.at_least ? "met" : "MISSED";
  }
  if (figure.at_most) return figure.value <= *figure.at_most ? "met" : "MISSED";
  return "";
}

}  // namespace

std::string MachineName() {
  std::string model = "unknown CPU";
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    const std::vector<std::string> parts =
        absl::StrSplit(line, absl::MaxSplits(':', 1));
    if (parts.size() == 2 && absl::StartsWith(parts[0], "model name")) {
      model = std::string(absl::StripAsciiWhitespace(parts[1]));
      break;
    }
  }
  absl::StrAppend(&model, ", ", std::thread::hardware_concurrency(), " CPUs");
  std::ifstream cache("/sys/devices/system/cpu/cpu0/cache/index3/size");
  std::string size;  // "32768K"
  if (cache >> size) absl::StrAppend(&model, ", L3 ", size);
  return model;
}

std::string Report::Table() const {
  size_t key_width = 3;
  for (const Figure& figure : figures_) {
    key_width = std::max(key_width, figure.key.size());
  }
  std::string table = absl::StrFormat("%-*s %7s %10s %-9s %-8s %-6s %s\n",
                                      key_width, "key", "threads", "value",
                                      "unit", "bound", "", "measured against");
  for (const Figure& figure : figures_) {
    absl::StrAppendFormat(
        &table, "%-*s %7s %10.4g %-9s %-8s %-6s %s\n", key_width, figure.key,
        figure.threads > 0 ? absl::StrCat(figure.threads) : "", figure.value,
        figure.unit, Bound(figure), Verdict(figure), figure.note);
  }
  return table;
}

std::string Report::Json() const {
  nlohmann::ordered_json figures = nlohmann::ordered_json::array();
  for (const Figure& figure : figures_) {
    nlohmann::ordered_json item = {{"key", figure.key}};
    if (figure.threads > 0) item["threads"] = figure.threads;
    item["value"] = figure.value;
    if (!figure.unit.empty()) item["unit"] = figure.unit;
    if (figure.at_least) item["at_least"] = *figure.at_least;
    if (figure.at_most) item["at_most"] = *figure.at_most;
    if (!figure.note.empty()) item["note"] = figure.note;
    figures.push_back(std::move(item));
  }
  nlohmann::ordered_json report;
  report["machine"] = MachineName();
  report["engine"] = std::string(kEngineVersion);
  report["figures"] = std::move(figures);
  return report.dump(2) + "\n";
}

}  // namespace pot
