// What happened, one line per event, on standard error. The server's only
// user of spdlog.
#ifndef POT_SERVER_OBSERVABILITY_LOG_H_
#define POT_SERVER_OBSERVABILITY_LOG_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace pot {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };
enum class LogFormat { kText, kJson };

// "debug", "info", "warning", "error" or "off"; "text" or "json".
absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view text);
absl::StatusOr<LogFormat> ParseLogFormat(absl::string_view text);

// Before the first line; may be called again. Lines are written by a thread of
// its own: a caller never waits for standard error, and when nobody reads it
// the oldest of 8192 waiting lines are dropped.
absl::Status StartLogging(LogLevel level, LogFormat format);
// Writes what is waiting and ends the thread; later lines are lost.
void StopLogging();

// A figure or text beside a line's message. Values are escaped where the
// format needs it, so that no value can forge a line.
using LogFields = std::vector<std::pair<std::string, std::string>>;
void Log(LogLevel level, absl::string_view message, const LogFields& fields);

// One call, when it is over. Holds no text of a prompt or an answer, unless an
// operator asked for prompts.
struct RequestRecord {
  std::string method;  // "Generate"
  std::string request_id;
  std::string trace_id;  // of a W3C traceparent; empty: none
  std::string caller;    // the name of its key; empty: none
  std::string model;
  int64_t version = 0;
  std::string sha256;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
  absl::Duration queue, prefill, decode, first_token, total;
  std::string code;     // "OK", "INVALID_ARGUMENT", ..
  std::string reason;   // of an error
  std::string message;  // of an error
  std::string prompt;   // empty: not asked for
};
// At kInfo; at kWarning when the code is one that only the server can cause.
void LogRequest(const RequestRecord& record);

// The line, without its end, as StartLogging(.., format) writes it.
std::string FormatLogLine(LogFormat format, absl::Time time, LogLevel level,
                          absl::string_view message, const LogFields& fields);

}  // namespace pot

#endif  // POT_SERVER_OBSERVABILITY_LOG_H_
