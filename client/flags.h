// The flags that all commands share, and helpers to declare others.
#ifndef POT_CLIENT_FLAGS_H_
#define POT_CLIENT_FLAGS_H_

#include <functional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/time/time.h"

namespace pot {

enum class OutputFormat { kText, kJson, kJsonLines };

struct CommonFlags {
  std::string server = "127.0.0.1:8500";
  // Of each call. Infinite: none.
  absl::Duration timeout = absl::InfiniteDuration();
  OutputFormat output = OutputFormat::kText;
  // A file with values for flags. Empty: none.
  std::string config;
  bool verbose = false;
};

void AddCommonFlags(CLI::App* app, CommonFlags* flags);

// --model NAME[@...], once.
void AddModelFlag(CLI::App* app, std::string* model);

// A flag whose value goes to `set`, a callable that takes a T.
template <typename T, typename Set>
CLI::Option* AddValueFlag(CLI::App* app, const std::string& name, Set set,
                          const std::string& description) {
  return app->add_option_function<T>(
      name, [set](const T& value) { set(value); }, description);
}

// The same with values that `parse` may refuse.
CLI::Option* AddParsedFlag(
    CLI::App* app, const std::string& name,
    std::function<absl::Status(const std::string&)> parse,
    const std::string& description);

// A flag that may be repeated, one value each time. `delimiter`, unless 0,
// splits one value into several. `set` gets all of them.
CLI::Option* AddListFlag(
    CLI::App* app, const std::string& name,
    std::function<absl::Status(const std::vector<std::string>&)> set,
    char delimiter, const std::string& description);

}  // namespace pot

#endif  // POT_CLIENT_FLAGS_H_
