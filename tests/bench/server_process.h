#ifndef POT_TESTS_BENCH_SERVER_PROCESS_H_
#define POT_TESTS_BENCH_SERVER_PROCESS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/bench/child_process.h"

namespace pot {

// A pot-server of its own on a free loopback port; ended with the object.
class ServerProcess {
 public:
  // Waits until the port is open. `log`: file for the server's messages.
  static absl::StatusOr<std::unique_ptr<ServerProcess>> Start(
      const std::string& program, std::vector<std::string> flags,
      const std::string& port_file, const std::string& log);

  std::string address() const;
  // Resident memory, bytes.
  absl::StatusOr<int64_t> ResidentBytes() const;

 private:
  explicit ServerProcess(std::unique_ptr<ChildProcess> process)
      : process_(std::move(process)) {}

  const std::unique_ptr<ChildProcess> process_;
  int port_ = 0;
};

}  // namespace pot

#endif  // POT_TESTS_BENCH_SERVER_PROCESS_H_
