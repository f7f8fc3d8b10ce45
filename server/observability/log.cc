#include "server/observability/log.h"

#include <spdlog/async.h>
#include <spdlog/async_logger.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/mutex.h"

namespace pot {
namespace {

constexpr size_t kMaxWaitingLines = 8192;

struct Logger {
  LogLevel level = LogLevel::kOff;
  LogFormat format = LogFormat::kText;
  std::shared_ptr<spdlog::logger> lines;
  // Destroyed first: its end joins the thread, which uses `lines`.
  std::shared_ptr<spdlog::details::thread_pool> pool;
};

Mutex& LoggerMutex() {
  static Mutex& mutex = *new Mutex;
  return mutex;
}

std::shared_ptr<const Logger>& TheLogger() {
  static auto& logger = *new std::shared_ptr<const Logger>;
  return logger;
}

std::shared_ptr<const Logger> CurrentLogger() {
  MutexLock lock(&LoggerMutex());
  return TheLogger();
}

absl::string_view LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
    case LogLevel::kOff:
      break;
  }
  return "off";
}

// Bare when nothing in it could be taken for syntax.
std::string TextValue(absl::string_view value) {
  const bool bare =
      !value.empty() && std::all_of(value.begin(), value.end(), [](char c) {
        return c > ' ' && c < 0x7F && c != '"' && c != '=' && c != '\\';
      });
  if (bare) return std::string(value);
  return absl::StrCat("\"", absl::Utf8SafeCEscape(value), "\"");
}

std::string Seconds(absl::Duration duration) {
  return absl::StrCat(absl::ToDoubleSeconds(duration));
}

}  // namespace

absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view text) {
  for (LogLevel level : {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning,
                         LogLevel::kError, LogLevel::kOff}) {
    if (text == LevelName(level)) return level;
  }
  return absl::InvalidArgumentError(
      "must be debug, info, warning, error or off");
}

absl::StatusOr<LogFormat> ParseLogFormat(absl::string_view text) {
  if (text == "text") return LogFormat::kText;
  if (text == "json") return LogFormat::kJson;
  return absl::InvalidArgumentError("must be text or json");
}

absl::Status StartLogging(LogLevel level, LogFormat format) {
  auto logger = std::make_shared<Logger>();
  logger->level = level;
  logger->format = format;
  try {
    logger->pool =
        std::make_shared<spdlog::details::thread_pool>(kMaxWaitingLines, 1);
    logger->lines = std::make_shared<spdlog::async_logger>(
        "pot", std::make_shared<spdlog::sinks::stderr_sink_mt>(), logger->pool,
        spdlog::async_overflow_policy::overrun_oldest);
    logger->lines->set_pattern("%v");
    logger->lines->set_level(spdlog::level::trace);
    logger->lines->flush_on(spdlog::level::trace);
  } catch (const std::exception& error) {
    return absl::InternalError(
        absl::StrCat("cannot start logging: ", error.what()));
  }
  MutexLock lock(&LoggerMutex());
  TheLogger() = std::move(logger);
  return absl::OkStatus();
}

void StopLogging() {
  std::shared_ptr<const Logger> last;
  MutexLock lock(&LoggerMutex());
  // The pool's destructor writes what is waiting.
  last.swap(TheLogger());
}

void Log(LogLevel level, absl::string_view message, const LogFields& fields) {
  const std::shared_ptr<const Logger> logger = CurrentLogger();
  if (logger == nullptr || level < logger->level ||
      logger->level == LogLevel::kOff) {
    return;
  }
  const std::string line =
      FormatLogLine(logger->format, absl::Now(), level, message, fields);
  try {
    logger->lines->log(spdlog::level::info, spdlog::string_view_t(line));
  } catch (const std::exception&) {
    // A line that cannot be logged must not fail a request.
  }
}

void LogRequest(const RequestRecord& record) {
  LogFields fields = {
      {"method", record.method},
      {"request_id", record.request_id},
      {"code", record.code},
  };
  if (!record.trace_id.empty()) {
    fields.emplace_back("trace_id", record.trace_id);
  }
  if (!record.caller.empty()) fields.emplace_back("caller", record.caller);
  if (!record.model.empty()) {
    fields.emplace_back("model", record.model);
    fields.emplace_back("version", absl::StrCat(record.version));
    fields.emplace_back("sha256", record.sha256);
  }
  fields.emplace_back("prompt_tokens", absl::StrCat(record.prompt_tokens));
  fields.emplace_back("generated_tokens",
                      absl::StrCat(record.generated_tokens));
  fields.emplace_back("queue_seconds", Seconds(record.queue));
  fields.emplace_back("prefill_seconds", Seconds(record.prefill));
  fields.emplace_back("decode_seconds", Seconds(record.decode));
  fields.emplace_back("first_token_seconds", Seconds(record.first_token));
  fields.emplace_back("total_seconds", Seconds(record.total));
  if (!record.reason.empty()) fields.emplace_back("reason", record.reason);
  if (!record.message.empty()) fields.emplace_back("error", record.message);
  if (!record.prompt.empty()) fields.emplace_back("prompt", record.prompt);
  const bool server_fault = record.code == "INTERNAL" ||
                            record.code == "DATA_LOSS" ||
                            record.code == "UNKNOWN";
  Log(server_fault ? LogLevel::kWarning : LogLevel::kInfo, "request", fields);
}

std::string FormatLogLine(LogFormat format, absl::Time time, LogLevel level,
                          absl::string_view message, const LogFields& fields) {
  const std::string when =
      absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", time, absl::UTCTimeZone());
  if (format == LogFormat::kJson) {
    nlohmann::ordered_json line;
    line["time"] = when;
    line["level"] = std::string(LevelName(level));
    line["message"] = std::string(message);
    for (const auto& [key, value] : fields) line[key] = value;
    return line.dump(-1, ' ', false,
                     nlohmann::ordered_json::error_handler_t::replace);
  }
  std::string line = absl::StrCat(when, " ", LevelName(level), " ",
                                  absl::Utf8SafeCEscape(message));
  for (const auto& [key, value] : fields) {
    absl::StrAppend(&line, " ", key, "=", TextValue(value));
  }
  return line;
}

}  // namespace pot
