// pot-server: exits with 0 after SIGTERM or SIGINT and a drain, 1 when it
// cannot run, 2 on a wrong command line.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/observability/log.h"
#include "server/port_file.h"
#include "server/server.h"
#include "server/server_config.h"
#include "server/signal_thread.h"

namespace pot {
namespace {

absl::Status Run(const ServerConfig& config, SignalThread* signals) {
  absl::StatusOr<std::unique_ptr<Server>> started = Server::Start(config);
  if (!started.ok()) return started.status();
  const std::unique_ptr<Server> server = *std::move(started);
  if (!config.port_file.empty()) {
    const absl::Status status = WritePortFile(config.port_file, server->port());
    if (!status.ok()) return status;
  }
  if (!config.metrics_port_file.empty()) {
    const absl::Status status =
        WritePortFile(config.metrics_port_file, server->metrics_port());
    if (!status.ok()) return status;
  }
  std::thread loader([&server] { server->LoadModels(); });
  const int signal_number = signals->WaitForFirst();
  Log(LogLevel::kInfo, "draining",
      {{"signal", absl::StrCat(signal_number)},
       {"timeout", absl::FormatDuration(config.drain_timeout)}});
  const bool all_ended = server->Drain(absl::Now() + config.drain_timeout);
  Log(LogLevel::kInfo, "stopped",
      {{"all_ended", all_ended ? "true" : "false"}});
  loader.join();
  return absl::OkStatus();
}

int Main(const std::vector<std::string>& arguments) {
  const absl::StatusOr<ServerCommand> command = ParseServerCommand(
      arguments, [](const char* name) { return std::getenv(name); });
  if (!command.ok()) {
    std::fprintf(stderr, "pot-server: %s\nSee pot-server --help.\n",
                 std::string(command.status().message()).c_str());
    return 2;
  }
  if (!command->config.has_value()) {
    std::fputs(command->text.c_str(), stdout);
    return 0;
  }
  SignalThread signals;
  absl::Status status =
      StartLogging(command->config->log_level, command->config->log_format);
  if (status.ok()) status = Run(*command->config, &signals);
  if (!status.ok()) {
    std::fprintf(stderr, "pot-server: %s\n",
                 std::string(status.message()).c_str());
  }
  StopLogging();
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace pot

int main(int argc, char** argv) {
  return pot::Main(std::vector<std::string>(argv + 1, argv + argc));
}
