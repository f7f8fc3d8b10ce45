// Where values of flags come from when the command line has none: first the
// environment, then the file of --config.
//
// The flag --top-k of `generate` is POT_GENERATE_TOP_K and `top-k` below
// [generate]; --format of `models import` is POT_MODELS_IMPORT_FORMAT and
// `format` below [models.import]. Flags of every command, and --model, have no
// command in their name: POT_SERVER, POT_MODEL, and no section.
#ifndef POT_CLIENT_FLAG_SOURCES_H_
#define POT_CLIENT_FLAG_SOURCES_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "client/cli/command.h"

namespace pot {

// Value of an environment variable, if it is set.
using GetEnvironment =
    std::function<std::optional<std::string>(const std::string& name)>;

// Variable of the flag `name` ("top-k") of the command `path` ({"generate"}).
std::string EnvironmentName(const std::vector<std::string>& path,
                            absl::string_view name);

// Fills the flags of the parsed command in `root` that the command line left
// out. Empty variables count as unset. INVALID_ARGUMENT, naming the variable
// or the file and key, for a value that is wrong, a key that no command has,
// or a file that cannot be read.
absl::Status ApplyFlagSources(const Command& program,
                              const GetEnvironment& get_environment);

}  // namespace pot

#endif  // POT_CLIENT_FLAG_SOURCES_H_
