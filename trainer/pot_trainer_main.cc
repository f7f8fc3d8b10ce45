// pot-trainer: makes and measures models. Data on standard output, progress and
// errors on standard error; see --help.
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/command.h"
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
    case absl::StatusCode::kUnavailable:
      return 4;
    case absl::StatusCode::kResourceExhausted:
      return 6;
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return 7;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
      return 8;
    case absl::StatusCode::kCancelled:
      return 130;
    default:
      return 1;
  }
}

// OpenMP's threads spin for milliseconds between loops, which costs tenfold as
// soon as another process needs one of the cores. A short spin, then sleep, is
// as fast alone. The library reads the setting when it is loaded, so the
// program starts over, once, unless the user has set it.
void SpinBriefly(char** argv) {
  constexpr char kSpins[] = "GOMP_SPINCOUNT";
  if (std::getenv(kSpins) != nullptr ||
      std::getenv("OMP_WAIT_POLICY") != nullptr) {
    return;
  }
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length <= 0) return;
  path[length] = '\0';
  setenv(kSpins, "20000", 1);
  execv(path, argv);  // on failure it just goes on
}

int Main(int argc, char** argv) {
  CLI::App app("Quantizes and evaluates power-of-two GPT-2 models.",
               "pot-trainer");
  app.set_version_flag("--version", pot::kEngineVersion);
  const pot::Command program(&app);
  program.RequireCommand();
  absl::Status result;
  pot::AddQuantizeCommand(program, &result);
  pot::AddEvalCommand(program, &result);
  pot::AddReportCommand(program, &result);
  pot::AddInitCommand(program, &result);
  pot::AddPretrainCommand(program, &result);
  pot::AddQatCommand(program, &result);
  pot::AddTokenizerCommand(program, &result);
  pot::AddWorkerCommand(program, &result);
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
  SpinBriefly(argv);
  try {
    return Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pot-trainer: INTERNAL: %s\n", error.what());
    return 1;
  }
}
