#include "client/flag_sources.h"

#include <map>
#include <sstream>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/text_format.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"

namespace pot {
namespace {

constexpr size_t kMaxConfigBytes = 1 << 20;

using Path = std::vector<std::string>;
using Config = std::map<std::string, std::vector<std::string>>;

// Flags that mean the same to every command that has them.
bool IsCommon(const Path& path, absl::string_view name) {
  return path.empty() || name == "model";
}

std::string ConfigKey(const Path& path, const std::string& name) {
  if (IsCommon(path, name)) return name;
  return absl::StrCat(absl::StrJoin(path, "."), ".", name);
}

// The long name of a flag that a value can be given for; empty for help,
// version and positional arguments.
std::string LongName(const CLI::Option& option) {
  if (option.get_lnames().empty()) return "";
  const std::string& name = option.get_lnames()[0];
  return name == "help" || name == "version" ? "" : name;
}

void CollectKeys(CLI::App* app, const Path& path,
                 std::map<std::string, bool>* keys) {
  for (const CLI::Option* option : app->get_options()) {
    const std::string name = LongName(*option);
    if (!name.empty()) (*keys)[ConfigKey(path, name)] = true;
  }
  for (CLI::App* command :
       app->get_subcommands([](const CLI::App*) { return true; })) {
    Path inner = path;
    inner.push_back(command->get_name());
    CollectKeys(command, inner, keys);
  }
}

absl::StatusOr<Config> ReadConfig(CLI::App* root, const std::string& path) {
  POT_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxConfigBytes));
  std::map<std::string, bool> known;
  CollectKeys(root, {}, &known);
  Config config;
  try {
    std::istringstream stream(text);
    for (const CLI::ConfigItem& item : CLI::ConfigTOML().from_config(stream)) {
      // How CLI11 marks where a section begins and ends.
      if (item.name == "++" || item.name == "--") continue;
      Path parts = item.parents;
      parts.push_back(item.name);
      const std::string key = absl::StrJoin(parts, ".");
      if (known.find(key) == known.end()) {
        return absl::InvalidArgumentError(absl::StrCat(
            Printable(path), ": no command has the key ", Quoted(key)));
      }
      std::vector<std::string>& values = config[key];
      values.insert(values.end(), item.inputs.begin(), item.inputs.end());
    }
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(Printable(path), ": ", Printable(error.what())));
  }
  return config;
}

absl::Status SetOption(CLI::Option* option, const std::string& name,
                       const std::vector<std::string>& values,
                       const std::string& source) {
  try {
    for (const std::string& value : values) {
      if (FindInvalidUtf8(value) != value.size()) {
        return absl::InvalidArgumentError(
            absl::StrCat(source, ": not UTF-8: ", Quoted(value)));
      }
      option->add_result(option->get_expected_min() == 0
                             ? option->get_flag_value(name, value)
                             : value);
    }
    option->run_callback();
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": ", Printable(error.what())));
  }
  return absl::OkStatus();
}

absl::Status ApplyToCommand(CLI::App* app, const Path& path,
                            const GetEnvironment& get_environment,
                            const Config& config,
                            const std::string& config_path) {
  for (CLI::Option* option : app->get_options()) {
    const std::string name = LongName(*option);
    if (name.empty() || option->count() > 0) continue;
    const std::string variable = EnvironmentName(path, name);
    const std::optional<std::string> value = get_environment(variable);
    if (value.has_value() && !value->empty()) {
      POT_RETURN_IF_ERROR(SetOption(option, name, {*value}, variable));
      continue;
    }
    const auto entry = config.find(ConfigKey(path, name));
    if (entry != config.end()) {
      POT_RETURN_IF_ERROR(
          SetOption(option, name, entry->second,
                    absl::StrCat(Printable(config_path), ": ", entry->first)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string EnvironmentName(const Path& path, absl::string_view name) {
  Path parts = {"POT"};
  if (!IsCommon(path, name))
    parts.insert(parts.end(), path.begin(), path.end());
  parts.emplace_back(name);
  return absl::AsciiStrToUpper(
      absl::StrReplaceAll(absl::StrJoin(parts, "_"), {{"-", "_"}}));
}

absl::Status ApplyFlagSources(const Command& program,
                              const GetEnvironment& get_environment) {
  CLI::App* const root = program.app();
  std::string config_path;
  const CLI::Option* const config_flag = root->get_option_no_throw("--config");
  if (config_flag != nullptr && config_flag->count() > 0) {
    config_path = config_flag->results().back();
  } else if (config_flag != nullptr) {
    config_path = get_environment(EnvironmentName({}, "config")).value_or("");
  }
  Config config;
  if (!config_path.empty()) {
    absl::StatusOr<Config> read = ReadConfig(root, config_path);
    if (!read.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--config: ", Printable(read.status().message())));
    }
    config = *std::move(read);
  }
  Path path;
  for (CLI::App* app = root; app != nullptr;) {
    POT_RETURN_IF_ERROR(
        ApplyToCommand(app, path, get_environment, config, config_path));
    const std::vector<CLI::App*> parsed = app->get_subcommands();
    app = parsed.empty() ? nullptr : parsed[0];
    if (app != nullptr) path.push_back(app->get_name());
  }
  return absl::OkStatus();
}

}  // namespace pot
