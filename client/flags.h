// The flags that all commands share, and helpers to declare others.
#ifndef POT_CLIENT_FLAGS_H_
#define POT_CLIENT_FLAGS_H_

#include <limits>
#include <string>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/cli/command.h"
#include "client/text_format.h"
#include "client/transport/channel_security.h"
#include "engine/base/status_macros.h"

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
  ChannelSecurityFlags security;
};

void AddCommonFlags(const Command& app, CommonFlags* flags);

// --model NAME[@...], once.
void AddModelFlag(const Command& app, std::string* model);

// Decimal numbers only: CLI11 would take "010" for 8 and let -1 and 2^64 wrap
// or saturate. INVALID_ARGUMENT, naming the range, for anything else.
template <typename T>
absl::Status ParseNumber(const std::string& text, T* number) {
  if constexpr (std::is_integral_v<T>) {
    if (absl::SimpleAtoi(text, number)) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        Quoted(text), " is no whole number in [", std::numeric_limits<T>::min(),
        ", ", std::numeric_limits<T>::max(), "]"));
  } else {
    bool parsed = false;
    if constexpr (std::is_same_v<T, double>) {
      parsed = absl::SimpleAtod(text, number);
    } else {
      parsed = absl::SimpleAtof(text, number);
    }
    if (parsed) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(text), " is no number"));
  }
}

// What --help calls such values.
template <typename T>
constexpr const char* TypeNameOf() {
  if constexpr (std::is_floating_point_v<T>) return "FLOAT";
  if constexpr (std::is_unsigned_v<T>) return "UINT";
  return std::is_integral_v<T> ? "INT" : "TEXT";
}

// A flag whose value, text or a number, goes to `set`, a callable that takes a
// T.
template <typename T, typename Set>
Flag AddValueFlag(const Command& app, const std::string& name, Set set,
                  const std::string& description) {
  return app
      .AddParsedFlag(
          name,
          [set](const std::string& text) -> absl::Status {
            T value{};
            if constexpr (std::is_arithmetic_v<T>) {
              POT_RETURN_IF_ERROR(ParseNumber(text, &value));
            } else {
              value = text;
            }
            set(value);
            return absl::OkStatus();
          },
          description)
      .TypeName(TypeNameOf<T>());
}

}  // namespace pot

#endif  // POT_CLIENT_FLAGS_H_
