// The commands and flags of a program. CLI11 parses them, but its header, which
// takes the compiler five seconds, is for this folder and for those that parse.
#ifndef POT_CLIENT_CLI_COMMAND_H_
#define POT_CLIENT_CLI_COMMAND_H_

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace pot {

// A flag or positional argument of a Command. A handle, which is copied; what
// changes the flag returns it.
class Flag {
 public:
  explicit Flag(CLI::Option* option) : option_(option) {}

  Flag Required() const;
  // --help shows the value that its variable has now.
  Flag ShowDefault() const;
  Flag TypeName(const std::string& name) const;
  Flag Description(const std::string& text) const;
  Flag OneOf(const std::vector<std::string>& values) const;
  // Both ends included.
  Flag InRange(int64_t low, int64_t high) const;
  Flag InFloatRange(double low, double high) const;
  Flag AtLeastZero() const;
  Flag Positive() const;
  // A number of bytes, perhaps with a unit of 1024: "4GiB", "4GB".
  Flag InBytes() const;
  // Of a list: splits one value into several.
  Flag Delimiter(char delimiter) const;
  // Of a list: all arguments up to the next flag are its values.
  Flag TakesMany() const;
  // The variable that counts where the command line says nothing.
  Flag Environment(const std::string& variable) const;
  Flag Needs(const Flag& other) const;
  Flag Excludes(const Flag& other) const;
  Flag Excludes(std::initializer_list<Flag> others) const;

 private:
  CLI::Option* option_;
};

// A program, or one of its commands. A handle, which is copied.
class Command {
 public:
  explicit Command(CLI::App* app) : app_(app) {}

  CLI::App* app() const { return app_; }

  Command AddCommand(const std::string& name,
                     const std::string& description) const;
  // One of its commands must be given.
  void RequireCommand() const;
  // Once the command line is parsed, if it names this command.
  void OnSelected(std::function<void()> function) const;
  // Under which --help lists the flags that are added from now on.
  void SetFlagGroup(const std::string& title) const;

  // Names are "--name", "-n,--name" or, of a positional argument, "name".

  // A value goes to `*value`: std::string, a vector or an optional of them, int,
  // int64_t, uint64_t, float or double.
  template <typename T>
  Flag AddFlag(const std::string& name, T* value,
               const std::string& description) const;
  // A value that `parse` may refuse.
  Flag AddParsedFlag(const std::string& name,
                     std::function<absl::Status(const std::string&)> parse,
                     const std::string& description) const;
  // One value each time that it is given; `set` gets all of them.
  Flag AddListFlag(
      const std::string& name,
      std::function<absl::Status(const std::vector<std::string>&)> set,
      const std::string& description) const;
  // No value, or --name=false.
  Flag AddSwitch(const std::string& name, bool* value,
                 const std::string& description) const;
  // `set` gets how often it was given; --name=false counts as -1.
  Flag AddSwitch(const std::string& name, std::function<void(int64_t)> set,
                 const std::string& description) const;
  // One that was added.
  Flag FindFlag(const std::string& name) const;

 private:
  CLI::App* app_;
};

}  // namespace pot

#endif  // POT_CLIENT_CLI_COMMAND_H_
