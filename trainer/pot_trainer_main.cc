// pot-trainer: makes and measures models. Data on standard output, progress and
// errors on standard error; see --help.
#include <cstdio>
#include <exception>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/loaded_model.h"
#include "trainer/commands.h"

namespace {

// The exit codes that pot-client has, too.
int ExitCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
      return 2;
    case absl::StatusCode::kNotFound:
      return 3;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
      return 8;
    default:
      return 1;
  }
}

int Main(int argc, char** argv) {
  CLI::App app("Quantizes and evaluates power-of-two GPT-2 models.",
               "pot-trainer");
  app.require_subcommand(1);
  app.set_version_flag("--version", pot::kEngineVersion);
  absl::Status result;
  pot::AddQuantizeCommand(&app, &result);
  pot::AddEvalCommand(&app, &result);
  pot::AddInitCommand(&app, &result);
  pot::AddTokenizerCommand(&app, &result);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // 0 for --help and --version.
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (!result.ok()) {
    absl::FPrintF(stderr, "pot-trainer: %s: %s\n",
                  absl::StatusCodeToString(result.code()), result.message());
  }
  return ExitCode(result);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pot-trainer: INTERNAL: %s\n", error.what());
    return 1;
  }
}
