#include "client/cli/command.h"

#include <cmath>
#include <cstdlib>
#include <optional>
#include <utility>

#include "CLI/CLI.hpp"

namespace pot {
namespace {

// How CLI11 hears of a value that is wrong: whoever parses catches it.
void ThrowUnlessOk(const std::string& name, const absl::Status& status) {
  if (!status.ok()) {
    throw CLI::ValidationError(name, std::string(status.message()));
  }
}

}  // namespace

Flag Flag::Required() const {
  option_->required();
  return *this;
}

Flag Flag::ShowDefault() const {
  option_->capture_default_str();
  return *this;
}

Flag Flag::TypeName(const std::string& name) const {
  option_->type_name(name);
  return *this;
}

Flag Flag::Description(const std::string& text) const {
  option_->description(text);
  return *this;
}

Flag Flag::OneOf(const std::vector<std::string>& values) const {
  option_->check(CLI::IsMember(values));
  return *this;
}

Flag Flag::InRange(int64_t low, int64_t high) const {
  option_->check(CLI::Range(low, high));
  return *this;
}

Flag Flag::InFloatRange(double low, double high) const {
  option_->check(CLI::Range(low, high));
  // To CLI11 NaN is in every range.
  option_->check([](const std::string& text) {
    return std::isnan(std::strtod(text.c_str(), nullptr))
               ? "Value " + text + " is not a number"
               : "";
  });
  return *this;
}

Flag Flag::AtLeastZero() const {
  option_->check(CLI::NonNegativeNumber);
  return *this;
}

Flag Flag::Positive() const {
  option_->check(CLI::PositiveNumber);
  return *this;
}

Flag Flag::InBytes() const {
  option_->transform(CLI::AsSizeValue(/*kb_is_1000=*/false));
  return *this;
}

Flag Flag::Delimiter(char delimiter) const {
  option_->delimiter(delimiter);
  return *this;
}

Flag Flag::TakesMany() const {
  option_->allow_extra_args(true);
  return *this;
}

Flag Flag::Environment(const std::string& variable) const {
  option_->envname(variable);
  return *this;
}

Flag Flag::Needs(const Flag& other) const {
  option_->needs(other.option_);
  return *this;
}

Flag Flag::Excludes(const Flag& other) const {
  option_->excludes(other.option_);
  return *this;
}

Flag Flag::Excludes(std::initializer_list<Flag> others) const {
  for (const Flag& other : others) option_->excludes(other.option_);
  return *this;
}

Command Command::AddCommand(const std::string& name,
                            const std::string& description) const {
  return Command(app_->add_subcommand(name, description));
}

void Command::RequireCommand() const { app_->require_subcommand(1); }

void Command::OnSelected(std::function<void()> function) const {
  app_->callback(std::move(function));
}

void Command::SetFlagGroup(const std::string& title) const {
  app_->option_defaults()->group(title);
}

template <typename T>
Flag Command::AddFlag(const std::string& name, T* value,
                      const std::string& description) const {
  return Flag(app_->add_option(name, *value, description));
}

template Flag Command::AddFlag(const std::string&, std::string*,
                               const std::string&) const;
template Flag Command::AddFlag(const std::string&, std::vector<std::string>*,
                               const std::string&) const;
template Flag Command::AddFlag(const std::string&, std::optional<std::string>*,
                               const std::string&) const;
template Flag Command::AddFlag(const std::string&, int*,
                               const std::string&) const;
template Flag Command::AddFlag(const std::string&, int64_t*,
                               const std::string&) const;
template Flag Command::AddFlag(const std::string&, uint64_t*,
                               const std::string&) const;
template Flag Command::AddFlag(const std::string&, float*,
                               const std::string&) const;
template Flag Command::AddFlag(const std::string&, double*,
                               const std::string&) const;

Flag Command::AddParsedFlag(
    const std::string& name,
    std::function<absl::Status(const std::string&)> parse,
    const std::string& description) const {
  return Flag(app_->add_option_function<std::string>(
      name,
      [name, parse = std::move(parse)](const std::string& value) {
        ThrowUnlessOk(name, parse(value));
      },
      description));
}

Flag Command::AddListFlag(
    const std::string& name,
    std::function<absl::Status(const std::vector<std::string>&)> set,
    const std::string& description) const {
  CLI::Option* const option =
      app_->add_option_function<std::vector<std::string>>(
          name,
          [name, set = std::move(set)](const std::vector<std::string>& values) {
            ThrowUnlessOk(name, set(values));
          },
          description);
  // Or the flag would swallow the positional arguments behind it.
  option->allow_extra_args(false);
  return Flag(option);
}

Flag Command::AddSwitch(const std::string& name, bool* value,
                        const std::string& description) const {
  return Flag(app_->add_flag(name, *value, description));
}

Flag Command::AddSwitch(const std::string& name,
                        std::function<void(int64_t)> set,
                        const std::string& description) const {
  return Flag(app_->add_flag_function(name, std::move(set), description));
}

Flag Command::FindFlag(const std::string& name) const {
  return Flag(app_->get_option(name));
}

}  // namespace pot
