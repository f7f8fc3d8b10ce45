// pot-bench: the project's figures of speed and memory, each beside what it is
// measured against, in one run. Run it alone on the machine.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status_macros.h"
#include "tests/bench/sections.h"

namespace pot {
namespace {

struct Section {
  const char* name;
  SectionFunction* measure;
};

constexpr Section kSections[] = {
    {"gemv", MeasureGemv},         {"decode", MeasureDecode},
    {"context", MeasureContext},   {"prefill512", MeasurePrefill},
    {"batch", MeasureBatch},       {"small", MeasureSmall},
    {"server", MeasureServer},     {"metrics", MeasureMetrics},
    {"train", MeasureTrain},       {"jobs", MeasureJobs},
    {"outliers", MeasureOutliers}, {"dequant", MeasureDequantization},
};

std::string SectionNames() {
  return absl::StrJoin(kSections, ", ",
                       [](std::string* out, const Section& section) {
                         absl::StrAppend(out, section.name);
                       });
}

struct Flags {
  BenchOptions options;
  std::vector<int> threads = {1, 2};
  std::vector<std::string> only;
  std::string json;
};

bool Wanted(const Flags& flags, const Section& section) {
  if (flags.only.empty()) return true;
  for (const std::string& name : flags.only) {
    if (name == section.name) return true;
  }
  return false;
}

absl::Status Run(const Flags& flags) {
  std::fprintf(stderr, "%s\n", MachineName().c_str());
  Report report;
  for (const Section& section : kSections) {
    if (!Wanted(flags, section)) continue;
    for (const int threads : flags.threads) {
      std::fprintf(stderr, "measuring %s, %d thread%s ..\n", section.name,
                   threads, threads == 1 ? "" : "s");
      POT_RETURN_IF_ERROR(section.measure(flags.options, threads, &report));
    }
  }
  std::fputs(report.Table().c_str(), stdout);
  if (flags.json.empty()) return absl::OkStatus();
  std::ofstream file(flags.json);
  file << report.Json();
  file.close();
  if (!file) {
    return absl::UnavailableError(
        absl::StrCat("cannot write \"", flags.json, "\""));
  }
  return absl::OkStatus();
}

// The `program` beside this one, where all are installed, or of `folder` in the
// build tree.
std::string DefaultProgram(const std::string& folder,
                           const std::string& program) {
  std::error_code error;
  const std::filesystem::path self =
      std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  for (const std::string& relative :
       {program, absl::StrCat("../../", folder, "/", program)}) {
    const std::filesystem::path path = self / relative;
    if (std::filesystem::exists(path, error)) {
      return path.lexically_normal().string();
    }
  }
  return program;
}

int Main(int argc, char** argv) {
  Flags flags;
  flags.options.server = DefaultProgram("server", "pot-server");
  flags.options.trainer = DefaultProgram("trainer", "pot-trainer");
  CLI::App app(
      "Measures speed and memory at the shape of GPT-2 124M with random "
      "weights. Run it alone on the machine.");
  app.add_option("--threads", flags.threads, "Numbers of threads")
      ->delimiter(',')
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--only", flags.only,
                 absl::StrCat("Sections, all by default: ", SectionNames()))
      ->delimiter(',');
  app.add_option("--json", flags.json,
                 "Write the figures to this file as well");
  app.add_option("--repetitions", flags.options.repetitions,
                 "Rounds of which the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--work", flags.options.work,
                 "Directory to keep the models in; a temporary one without");
  app.add_option("--server", flags.options.server, "pot-server program")
      ->capture_default_str();
  app.add_option("--trainer", flags.options.trainer, "pot-trainer program")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  for (const std::string& name : flags.only) {
    bool known = false;
    for (const Section& section : kSections) known |= name == section.name;
    if (!known) {
      std::fprintf(stderr, "pot-bench: unknown section \"%s\"; known are %s\n",
                   name.c_str(), SectionNames().c_str());
      return 2;
    }
  }

  std::string temporary;
  if (flags.options.work.empty()) {
    temporary =
        (std::filesystem::temp_directory_path() / "pot-bench.XXXXXX").string();
    if (mkdtemp(temporary.data()) == nullptr) {
      std::perror("pot-bench: cannot make a temporary directory");
      return 1;
    }
    flags.options.work = temporary;
  }
  const absl::Status status = Run(flags);
  if (!temporary.empty()) {
    std::error_code error;
    std::filesystem::remove_all(temporary, error);
  }
  if (status.ok()) return 0;
  std::fprintf(stderr, "pot-bench: %s\n", status.ToString().c_str());
  return 1;
}

}  // namespace
}  // namespace pot

int main(int argc, char** argv) { return pot::Main(argc, argv); }
