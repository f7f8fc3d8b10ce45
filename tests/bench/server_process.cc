#include "tests/bench/server_process.h"

#include <unistd.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"

namespace pot {

absl::StatusOr<std::unique_ptr<ServerProcess>> ServerProcess::Start(
    const std::string& program, std::vector<std::string> flags,
    const std::string& port_file, const std::string& log) {
  unlink(port_file.c_str());
  flags.insert(flags.begin(),
               {program, "--listen=127.0.0.1:0", "--port-file=" + port_file,
                "--metrics-listen=127.0.0.1:0"});
  POT_ASSIGN_OR_RETURN(std::unique_ptr<ChildProcess> process,
                       ChildProcess::Start(std::move(flags), log));
  std::unique_ptr<ServerProcess> server(new ServerProcess(std::move(process)));
  for (int i = 0; i < 6000; ++i) {
    std::ifstream file(port_file);
    if (file >> server->port_) return server;
    if (server->process_->HasEnded()) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return absl::UnavailableError(
      absl::StrCat(program, " did not open its port; see ", log));
}

std::string ServerProcess::address() const {
  return absl::StrCat("127.0.0.1:", port_);
}

absl::StatusOr<int64_t> ServerProcess::ResidentBytes() const {
  std::ifstream status(absl::StrCat("/proc/", process_->pid(), "/status"));
  for (std::string line; std::getline(status, line);) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    int64_t kibibytes;
    if (words.size() == 3 && words[0] == "VmRSS:" &&
        absl::SimpleAtoi(words[1], &kibibytes)) {
      return kibibytes * 1024;
    }
  }
  return absl::UnavailableError("the server's memory is not known");
}

}  // namespace pot
