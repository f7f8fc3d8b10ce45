#include "client/command_line.h"

#include <exception>
#include <sstream>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/exit_code.h"
#include "client/text_format.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"

namespace pot {
namespace {

constexpr char kFooter[] =
    "Flags without a command go anywhere. Every flag has an environment\n"
    "variable and a key in the file of --config; the command line wins over\n"
    "the environment, and that over the file:\n"
    "  --server              POT_SERVER             server = ...\n"
    "  generate --top-k      POT_GENERATE_TOP_K     top-k = ... in [generate]\n"
    "  models import --load  POT_MODELS_IMPORT_LOAD load = true in "
    "[models.import]\n"
    "A token can also be in POT_TOKEN.\n"
    "Exit codes: 0 ok, 1 internal, 2 usage, 3 not found, 4 unavailable,\n"
    "5 deadline, 6 exhausted, 7 authorization, 8 precondition, 9 job failed,\n"
    "10 job cancelled, 11 job's gate not passed, 130 interrupted.";

constexpr char kCommandFooter[] =
    "--server, --timeout, --output, --config, --verbose and what variables "
    "and\n"
    "keys flags have: pot-client --help.";

void ReportError(const absl::Status& status, Console* console) {
  console->WriteError(
      absl::StrCat("pot-client: ", absl::StatusCodeToString(status.code()),
                   ": ", Printable(status.message()), "\n"));
}

// The first of the variables that decide a locale's characters, as setlocale(3)
// looks them up, names UTF-8.
bool IsUtf8Locale(const GetEnvironment& get_environment) {
  for (const char* const name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string value =
        absl::AsciiStrToLower(get_environment(name).value_or(""));
    if (value.empty()) continue;
    return absl::StrContains(value, "utf-8") ||
           absl::StrContains(value, "utf8");
  }
  return false;
}

absl::Status CheckUtf8(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    const size_t invalid = FindInvalidUtf8(arguments[i]);
    if (invalid == arguments[i].size()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("argument ", i + 1, " is not UTF-8 from byte ", invalid,
                     " on: ", Quoted(arguments[i])));
  }
  return absl::OkStatus();
}

int ReportParseError(const CLI::App& app, const CLI::ParseError& error,
                     Console* console) {
  std::ostringstream out, unused;
  if (app.exit(error, out, unused) == 0) {
    // --help or --version.
    const absl::Status written = console->Write(out.str());
    return written.ok() || console->out_closed() ? kExitOk : kExitInternal;
  }
  // "A subcommand is required" would hide the mistyped one.
  const std::vector<std::string> left = app.remaining(/*recurse=*/true);
  const bool unknown =
      dynamic_cast<const CLI::RequiredError*>(&error) != nullptr &&
      !left.empty();
  ReportError(absl::InvalidArgumentError(absl::StrCat(
                  unknown ? absl::StrCat("no command or flag ", Quoted(left[0]))
                          : std::string(error.what()),
                  " (see pot-client --help)")),
              console);
  return kExitUsage;
}

bool IsLocalCommand(const CLI::App& app) {
  return app.got_subcommand("completion") || app.got_subcommand("tokens");
}

int Run(const std::vector<std::string>& arguments,
        const ClientEnvironment& environment) {
  Console* const console = environment.console;
  CommonFlags flags;
  CommandFunction selected;
  CLI::App app("Talks to pot-server: text, probabilities, models and training.",
               "pot-client");
  AddAllCommands(Command(&app), &flags, &selected);
  absl::Status status = CheckUtf8(arguments);
  if (status.ok()) {
    try {
      app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    } catch (const CLI::ParseError& error) {
      return ReportParseError(app, error, console);
    }
    status = ApplyFlagSources(Command(&app), environment.get_environment);
    flags.security.token =
        environment.get_environment("POT_TOKEN").value_or("");
  }
  int exit_code = kExitOk;
  if (status.ok()) {
    Session session(flags, console, environment.interrupter, environment.now,
                    IsUtf8Locale(environment.get_environment));
    // What needs no server must not fail for how it would be reached.
    if (!IsLocalCommand(app)) status = session.LoadSecurity();
    if (status.ok()) status = selected(&session);
    exit_code = session.exit_code();
  }
  if (console->out_closed()) return kExitOk;
  if (environment.interrupter->interrupted()) return kExitInterrupted;
  if (status.ok()) return exit_code;
  ReportError(status, console);
  // The server may cancel, too; only Ctrl-C is 130.
  return status.code() == absl::StatusCode::kCancelled
             ? kExitInternal
             : ExitCodeOf(status.code());
}

}  // namespace

void AddAllCommands(const Command& program, CommonFlags* flags,
                    CommandFunction* selected) {
  CLI::App* const app = program.app();
  program.RequireCommand();
  app->set_version_flag("--version", "pot-client " POT_CLIENT_VERSION);
  app->footer(kFooter);
  AddCommonFlags(program, flags);
  AddGenerateCommand(program, selected);
  AddReplCommand(program, selected);
  AddReplayCommand(program, selected);
  AddPerplexityCommand(program, selected);
  AddScoreCommand(program, selected);
  AddTokenizeCommand(program, selected);
  AddDetokenizeCommand(program, selected);
  AddModelsCommand(program, selected);
  AddSubmitQatCommand(program, selected);
  AddJobsCommand(program, selected);
  AddBenchCommand(program, selected);
  AddHealthCommand(program, selected);
  AddTokensCommand(program, selected);
  AddCompletionCommand(program, selected);
  for (CLI::App* command :
       app->get_subcommands([](const CLI::App*) { return true; })) {
    command->fallthrough();
    command->footer(kCommandFooter);
    for (CLI::App* inner :
         command->get_subcommands([](const CLI::App*) { return true; })) {
      inner->fallthrough();
      inner->footer(kCommandFooter);
    }
  }
}

int RunClient(const std::vector<std::string>& arguments,
              const ClientEnvironment& environment) {
  try {
    return Run(arguments, environment);
  } catch (const std::exception& error) {
    ReportError(absl::InternalError(error.what()), environment.console);
    return kExitInternal;
  }
}

}  // namespace pot
