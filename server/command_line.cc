#include "server/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace pot {
namespace {

bool IsSwitch(const Setting& setting) {
  return setting.default_value == "false";
}

bool Gives(const std::vector<std::string>& arguments, const std::string& flag) {
  const std::string with_value = absl::StrCat(flag, "=");
  return std::any_of(
      arguments.begin(), arguments.end(), [&](const std::string& argument) {
        return argument == flag ||
               argument.compare(0, with_value.size(), with_value) == 0;
      });
}

absl::StatusOr<CommandLine> Parse(
    CLI::App* app, const std::string& prefix,
    const std::vector<Setting>& settings, std::vector<std::string> arguments,
    const std::function<const char*(const char*)>& environment) {
  CommandLine line;
  std::map<std::string, bool> switches;
  const auto variable_of = [&prefix](const std::string& name) {
    return absl::StrCat(
        prefix, absl::AsciiStrToUpper(absl::StrReplaceAll(name, {{"-", "_"}})));
  };
  app->set_config("--config", "", "File of settings, as --print-config writes");
  app->get_config_ptr()->group("Options");
  for (const Setting& setting : settings) {
    const std::string flag = absl::StrCat("--", setting.name);
    const std::string help =
        absl::StrCat(setting.help, " [$", variable_of(setting.name), "]");
    if (IsSwitch(setting)) {
      app->add_flag(flag, switches[setting.name], help);
    } else {
      std::string& value = line.values[setting.name];
      value = setting.default_value;
      app->add_option(flag, value, help)->capture_default_str();
    }
  }
  app->add_flag("--version", line.version, "Print the version and exit")
      ->configurable(false);
  app->add_flag("--print-config", line.print_config,
                "Print all settings as they would apply and exit")
      ->configurable(false);
  app->allow_config_extras(CLI::config_extras_mode::error);

  // CLI11 lets a file win over the environment; appended flags do not.
  std::vector<std::string> names = {"config"};
  for (const Setting& setting : settings) names.push_back(setting.name);
  for (const std::string& name : names) {
    const char* value = environment(variable_of(name).c_str());
    const std::string flag = absl::StrCat("--", name);
    if (value != nullptr && *value != '\0' && !Gives(arguments, flag)) {
      arguments.push_back(absl::StrCat(flag, "=", value));
    }
  }
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  try {
    app->parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    line.help = app->help();
  }
  for (const auto& [name, value] : switches) {
    line.values[name] = value ? "true" : "false";
  }
  return line;
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(
    const std::string& program, const std::string& description,
    const std::string& prefix, const std::vector<Setting>& settings,
    const std::vector<std::string>& arguments,
    const std::function<const char*(const char*)>& environment) {
  try {
    CLI::App app(description, program);
    return Parse(&app, prefix, settings, arguments, environment);
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(error.what());
  }
}

}  // namespace pot
