#ifndef POT_TESTS_BENCH_SERVER_PROCESS_H_
#define POT_TESTS_BENCH_SERVER_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace pot {

// A pot-server of its own on a free loopback port; ended with the object.
class ServerProcess {
 public:
  // Waits until the port is open. `log`: file for the server's messages.
  static absl::StatusOr<std::unique_ptr<ServerProcess>> Start(
      const std::string& program, std::vector<std::string> flags,
      const std::string& port_file, const std::string& log);
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  std::string address() const;
  // Resident memory, bytes.
  absl::StatusOr<int64_t> ResidentBytes() const;

 private:
  explicit ServerProcess(pid_t pid) : pid_(pid) {}

  const pid_t pid_;
  int port_ = 0;
};

}  // namespace pot

#endif  // POT_TESTS_BENCH_SERVER_PROCESS_H_
