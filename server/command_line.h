// Settings from flags, environment and a file. The only user of CLI11, which
// throws.
#ifndef POT_SERVER_COMMAND_LINE_H_
#define POT_SERVER_COMMAND_LINE_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pot {

// A setting as text; a default of "false" makes a flag without a value.
struct Setting {
  std::string name;  // "kv-memory"
  std::string default_value;
  std::string help;
};

using SettingValues = std::map<std::string, std::string>;

struct CommandLine {
  SettingValues values;  // of every setting
  bool version = false;
  bool print_config = false;
  std::string help;  // not empty: asked for
};

// Flags come before the environment, that before the file of --config, that
// before defaults. The variable of "kv-memory" is `prefix` + "KV_MEMORY"; an
// empty one counts as unset. INVALID_ARGUMENT on unknown flags, unknown keys of
// the file, and files that cannot be read.
absl::StatusOr<CommandLine> ParseCommandLine(
    const std::string& program, const std::string& description,
    const std::string& prefix, const std::vector<Setting>& settings,
    const std::vector<std::string>& arguments,
    const std::function<const char*(const char*)>& environment);

}  // namespace pot

#endif  // POT_SERVER_COMMAND_LINE_H_
