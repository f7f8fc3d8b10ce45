#ifndef POT_TESTS_BENCH_CHILD_PROCESS_H_
#define POT_TESTS_BENCH_CHILD_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace pot {

// A program that runs beside this one; ended with the object.
class ChildProcess {
 public:
  // `command`: the program and its arguments; `log`: file for its messages.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(
      std::vector<std::string> command, const std::string& log);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  // Whether it ended by itself.
  bool HasEnded();

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}

  const pid_t pid_;
  bool ended_ = false;
};

}  // namespace pot

#endif  // POT_TESTS_BENCH_CHILD_PROCESS_H_
